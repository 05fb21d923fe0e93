"""Weights of a small network as a file: half precision, without the counters of batch norm."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from vidrestore.api import ResourceError, write_weights

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import nn

    Net = TypeVar("Net", bound=nn.Module)


def save(net: nn.Module, path: Path) -> None:
    """Whole or not at all."""
    write_weights(path, {name: value.half() for name, value in net.state_dict().items() if value.is_floating_point()})


def load(path: Path, sizes: Iterable[Net], what: str, remedy: str) -> Net:
    """Whichever of the sizes fits the file, with its weights, ready to infer, on the CPU.

    what: whose weights they should be. Raises ResourceError where the file holds another network, or is none.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = {name: value.float() for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise ResourceError(str(path), "not a safetensors file", remedy) from error
    for net in sizes:
        own = {name: value.shape for name, value in net.state_dict().items() if value.is_floating_point()}
        if own == {name: value.shape for name, value in found.items()}:
            net.load_state_dict(found, strict=False)
            return net.eval().requires_grad_(False)
    raise ResourceError(str(path), f"not the weights of {what}", remedy)
