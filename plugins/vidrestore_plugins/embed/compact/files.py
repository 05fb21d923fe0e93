"""The weights of embed=compact as a file: half precision, without the counters of batch norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidrestore.api import ResourceError, write_weights
from vidrestore_plugins.embed.compact.network import SIZES, Compact

if TYPE_CHECKING:
    from pathlib import Path


def save(net: Compact, path: Path) -> None:
    write_weights(path, {name: value.half() for name, value in net.state_dict().items() if value.is_floating_point()})


def load(path: Path) -> Compact:
    """Ready to embed, on the CPU. Raises ResourceError where the file holds another network."""
    from safetensors.torch import load_file

    found = {name: value.float() for name, value in load_file(path).items()}
    for size in SIZES.values():
        net = Compact(size)
        own = {name: value.shape for name, value in net.state_dict().items() if value.is_floating_point()}
        if own == {name: value.shape for name, value in found.items()}:
            net.load_state_dict(found, strict=False)
            return net.eval().requires_grad_(False)
    raise ResourceError(str(path), "not the weights of embed=compact", "train them: vidrestore train embed --help")
