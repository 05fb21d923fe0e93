"""LD-BFR's weights at rest: safetensors whose header says which size it is and which parts are in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError, safe_open

from vidrestore.api import ResourceError, UsageError, write_weights
from vidrestore_plugins.restore.ldbfr import checkpoints
from vidrestore_plugins.restore.ldbfr.model import LDBFR
from vidrestore_plugins.restore.ldbfr.sizes import SIZES, Size

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from torch import Tensor

PARTS = ("stage1", "ae", "unet")
_KEY = "ldbfr"  # of the header; its value is the size as JSON

# a public checkpoint: its layout, the parts that it fills, what it says of stage 1 and its tensors do not
PUBLIC: Final[dict[str, tuple[checkpoints.Name, tuple[str, ...], dict[str, object]]]] = {
    "ldm": ("ldm", ("ae", "unet"), {}),
    "vq-f4": ("vq-f4", ("ae",), {}),
    "restoreformer": ("restoreformer", ("stage1",), {"kind": "restoreformer", "attn_heads": 8}),
    "restoreformer++": ("restoreformer", ("stage1",), {"kind": "restoreformer++", "attn_heads": 4}),
    "hq-dictionary": ("hq-dictionary", ("stage1",), {"attn_heads": 8}),
    "ld-bfr": ("ld-bfr", PARTS, {}),
}


def convert(contents: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The importer of the published size: contents of public checkpoints, by their names in `PUBLIC`.

    Raises UsageError where a name is unknown or a part comes twice; ResourceError as `checkpoints.load`.
    """
    return put_together(contents, SIZES["full"])


def put_together(contents: Mapping[str, Any], size: Size) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a file with the parts that the checkpoints fill; what is new in them is as at birth."""
    filled: dict[str, str] = {}
    for name in contents:
        if name not in PUBLIC:
            raise UsageError(f"checkpoint {name}", "no such layout", f"name files LAYOUT=FILE, of: {' '.join(PUBLIC)}")
        _, parts, stage1 = PUBLIC[name]
        size = size.model_copy(update={"stage1": size.stage1.model_copy(update=stage1)})
        for part in parts:
            if part in filled:
                raise UsageError(f"checkpoint {name}", f"'{part}' comes from {filled[part]} already")
            filled[part] = name
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)  # the same checkpoints give the same file
        net = LDBFR(size)
    for name, content in contents.items():
        state = content.get("state_dict", content) if isinstance(content, dict) else {}
        checkpoints.load(net, state, PUBLIC[name][0])
    return packed(net, [part for part in PARTS if part in filled], torch.float32)


def save(net: LDBFR, path: Path, parts: Collection[str] = PARTS, dtype: torch.dtype = torch.float16) -> None:
    """Write the parts, whole or not at all."""
    write_weights(path, *packed(net, parts, dtype))


def packed(net: LDBFR, parts: Collection[str], dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a file with these parts."""
    tensors = {
        f"{part}.{name}": value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        for part in parts
        for name, value in getattr(net, part).state_dict().items()
    }
    return tensors, {_KEY: net.size.model_dump_json()}


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
