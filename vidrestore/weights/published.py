"""Reads checkpoints as trainings publish them. Nothing in them is run; what is not a tensor becomes inert."""

from __future__ import annotations

import pickle
import struct
import warnings
from argparse import Namespace
from typing import TYPE_CHECKING, Any, Final
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from vidrestore.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor


class Inert:
    """Stands for an object of a training that nothing here needs: takes any arguments, holds nothing."""

    def __new__(cls, *_: object) -> Inert:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None: ...


# beside tensors: figures that numpy computed, and the trainer's own notes
_LEFT_BEHIND: Final = (
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
)
_ALLOWED: Final[list[Any]] = [
    Namespace,
    *(type(name, (Inert,), {"__module__": module}) for module, name in _LEFT_BEHIND),
]
# what readers raise on bytes that are no checkpoint, or on one that would run code
_REFUSED: Final = (
    pickle.PickleError,
    SafetensorError,
    struct.error,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)


def read(path: Path) -> Any:
    """The content of a safetensors file or of a torch pickle, on the CPU; tensors stay on disk until they are used.

    Raises:
        ResourceError: it is neither, or it would run code.
    """
    try:
        if not _pickled(path):
            return load_file(path)
        with torch.serialization.safe_globals(_ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on pickles' versions
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except _REFUSED as error:
        raise ResourceError(str(path), "holds no plain tensors", "report it to its publisher") from error


def state_dict(content: Any) -> dict[str, Tensor]:
    """The tensors inside what a training saved, by name; "module." of parallel training is cut off."""
    for key in ("params_ema", "params", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        return {}
    return unwrapped({key: value for key, value in content.items() if isinstance(value, torch.Tensor)})


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the "module." that parallel training puts before each name."""
    return {key.removeprefix("module."): tensor for key, tensor in state.items()}


def _pickled(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02", b"\x80\x04")
