"""embed=compact: a small network of our own that looks past damage."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from vidrestore.api import weights_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vidrestore_plugins.embed.compact.network import Compact

WEIGHTS = "embed_compact"


class CompactOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror: bool = Field(False, description="add the mirrored face's embedding: surer, at twice the cost")


class CompactEmbedder:
    Options: ClassVar[type[BaseModel]] = CompactOptions
    weights = (WEIGHTS,)

    def __init__(self, options: CompactOptions) -> None:
        self.options = options
        self._net: Compact | None = None

    def open(self, device: torch.device) -> None:
        """Load the weights. Raises ResourceError where they cannot be had."""
        import torch

        from vidrestore_plugins.embed.compact.network import load

        self._net = load(weights_path(WEIGHTS)).to(device).to(memory_format=torch.channels_last)

    def embed(self, crops: Tensor) -> Tensor:
        """f32 [n, 3, S, S] in 0..1 -> f32 [n, 128], each of length 1."""
        import torch
        import torch.nn.functional as F

        from vidrestore_plugins.embed.compact.network import DIM, looked_at

        if self._net is None:
            raise ValueError("CompactEmbedder.embed was called before open")
        if len(crops) == 0:
            return crops.new_zeros(0, DIM)
        with torch.inference_mode():
            faces = looked_at(crops).contiguous(memory_format=torch.channels_last)
            vectors: Tensor = self._net(faces)[0]
            if self.options.mirror:
                vectors = F.normalize(vectors + self._net(faces.flip(-1))[0], dim=1)
        return vectors
