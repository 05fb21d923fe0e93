"""LD-BFR's weights at rest: safetensors whose header says which size it is and which parts are in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vidrestore.api import ResourceError
from vidrestore_plugins.restore.ldbfr.model import LDBFR
from vidrestore_plugins.restore.ldbfr.sizes import Size

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

PARTS = ("stage1", "ae", "unet")
_KEY = "ldbfr"  # of the header; its value is the size as JSON


def save(net: LDBFR, path: Path, parts: Collection[str] = PARTS, dtype: torch.dtype = torch.float16) -> None:
    """Write the parts, whole or not at all."""
    tensors = {
        f"{part}.{name}": value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        for part in parts
        for name, value in getattr(net, part).state_dict().items()
    }
    unfinished = path.with_suffix(".part")
    save_file(tensors, unfinished, {_KEY: net.size.model_dump_json()})
    unfinished.replace(path)


def load(path: Path) -> tuple[LDBFR, frozenset[str]]:
    """The network in f32 and the parts that the file has; what it lacks stays on the meta device.

    Raises ResourceError where the file is not LD-BFR's or does not fit the size that it names.
    """
    try:
        with safe_open(path, "pt") as file:
            size = Size.model_validate_json((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ResourceError(str(path), "not weights of LD-BFR", "see vidrestore weights list") from error
    net = LDBFR(size)
    found = frozenset(name.partition(".")[0] for name in tensors)
    for part in set(PARTS) - found:
        getattr(net, part).to("meta")
    for part in found:
        own = {name.removeprefix(part + "."): t for name, t in tensors.items() if name.startswith(part + ".")}
        try:
            getattr(net, part).load_state_dict(own)
        except (AttributeError, RuntimeError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise ResourceError(str(path), f"does not fit the network: {reason}") from error
    return net, found
