"""VSPBFR's weights at rest: safetensors whose header says which size it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from safetensors import SafetensorError, safe_open

from vidrestore.api import ResourceError, write_weights
from vidrestore_plugins.restore.vspbfr.model import VSPBFR
from vidrestore_plugins.restore.vspbfr.sizes import Size

if TYPE_CHECKING:
    from pathlib import Path

HEADER: Final = "vspbfr"  # its value is the size as JSON


def save(net: VSPBFR, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the networks, whole or not at all."""
    tensors = {
        name: value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype)
        for name, value in net.state_dict().items()
    }
    write_weights(path, tensors, {HEADER: net.size.model_dump_json()})


def load(path: Path) -> VSPBFR:
    """The networks, for inference, in f32.

    Raises ResourceError where the file is not VSPBFR's or does not fit the size that it names.
    """
    try:
        with safe_open(path, "pt") as file:
            size = Size.model_validate_json((file.metadata() or {})[HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ResourceError(str(path), "not weights of VSPBFR", "see vidrestore weights list") from error
    with torch.device("meta"):
        net = VSPBFR(size)
    try:
        net.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ResourceError(str(path), f"does not fit the networks: {reason}") from error
    return net.float().eval().requires_grad_(False)
