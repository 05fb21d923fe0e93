"""FLIPNET's weights at rest: safetensors whose header says which size they are of. Parts may lie in several files,
so that what was trained beside a prior can be passed on without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError, safe_open

from vidrestore.api import ResourceError, UsageError, write_weights
from vidrestore_plugins.restore.flipnet import lora
from vidrestore_plugins.restore.flipnet.model import FlipNet
from vidrestore_plugins.restore.flipnet.sizes import SIZES, Size

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from torch import Tensor

PRIOR: Final = ("unet", "vae")
TRAINED: Final = ("hubs", "projector", "tags")  # beside a prior; and the low-rank updates
PARTS: Final = (*PRIOR, "encoders", *TRAINED)
_HEADER: Final = "flipnet"  # its value is the size as JSON
_LORA: Final = "lora."
_OLD_NAMES: Final = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # of diffusers < 0.14


def save(
    net: FlipNet,
    path: Path,
    parts: Collection[str] = PARTS,
    updates: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write the parts, and low-rank updates that are not merged into the prior; whole or not at all."""
    named = {f"{part}.{name}": value for part in parts for name, value in getattr(net, part).state_dict().items()} | {
        _LORA + name: value for name, value in (updates or {}).items()
    }
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in named.items()}
    write_weights(path, tensors, {_HEADER: net.size.model_dump_json()})


def load(*paths: Path) -> tuple[FlipNet, frozenset[str]]:
    """The network in f32 with low-rank updates merged, and the parts that the files have together; what they lack
    stays on the meta device.

    Raises ResourceError where a file is not FLIPNET's, is of another size than the first, brings a part again or
    does not fit.
    """
    size: Size | None = None
    found: dict[str, dict[str, Tensor]] = {}
    for path in paths:
        own, parts = _read(path)
        if size is not None and own != size:
            raise ResourceError(str(path), f"is of another size than {paths[0]}", "use the prior it was trained on")
        if twice := set(parts) & set(found):
            raise ResourceError(str(path), f"'{min(twice)}' comes from {paths[0]} already", "name one of them")
        size, found = own, found | parts
    if size is None:
        raise ValueError("no file was named")
    with torch.device("meta"):
        net = FlipNet(size)
    updates = found.pop("lora", None)
    for part, tensors in found.items():
        try:
            net.get_submodule(part).load_state_dict(tensors, assign=True)
        except (AttributeError, RuntimeError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise ResourceError(" + ".join(map(str, paths)), f"do not fit the network: {reason}") from error
    if updates is not None and "unet" in found:
        lora.merge(net.unet, updates)
    return net, frozenset(found)


def convert(contents: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The importer of the prior: Stable Diffusion 2.1-base's files ``unet`` and ``vae`` in diffusers' layout.

    Raises UsageError where one is missing or unknown, ResourceError where tensors are missing, unknown or misshapen.
    """
    if set(contents) != set(PRIOR):
        given = " ".join(sorted(contents)) or "nothing"
        raise UsageError("prior", f"needs unet and vae, was given {given}", "name files unet=FILE vae=FILE")
    size = SIZES["full"]
    with torch.device("meta"):
        net = FlipNet(size)
    tensors: dict[str, Tensor] = {}
    for part in PRIOR:
        state = {_renamed(name): value for name, value in contents[part].items()}
        expected = net.get_submodule(part).state_dict()
        if odd := sorted(set(expected) ^ set(state)):
            what = "missing" if odd[0] in expected else "unknown"
            raise ResourceError(f"prior's {part}", f"{odd[0]} is {what}", "give files of Stable Diffusion 2.1-base")
        for name, value in state.items():
            if value.numel() != expected[name].numel():
                shape, wanted = tuple(value.shape), tuple(expected[name].shape)
                raise ResourceError(f"prior's {part}", f"{name} is {shape}, not {wanted}", "is it of 2.1-base?")
            tensors[f"{part}.{name}"] = value.reshape(expected[name].shape)
    return tensors, {_HEADER: size.model_dump_json()}


def _read(path: Path) -> tuple[Size, dict[str, dict[str, Tensor]]]:
    """The size that a file names, and its tensors by part."""
    try:
        with safe_open(path, "pt") as file:
            size = Size.model_validate_json((file.metadata() or {})[_HEADER])
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ResourceError(str(path), "not weights of FLIPNET", "see vidrestore weights list") from error
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value
    return size, parts


def _renamed(name: str) -> str:
    """A tensor's name as diffusers has it today; the old auto-encoders call their attention otherwise."""
    head, _, last = name.rpartition(".")
    parent, _, layer = head.rpartition(".")
    return f"{parent}.{_OLD_NAMES[layer]}.{last}" if layer in _OLD_NAMES else name
