"""restore=none: gives the crops back. What it leaves unchanged is the proof of everything around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch
    from torch import Tensor

    from vidrestore.api import Context, FaceBatch, Latent


class NoneOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(512, ge=16, le=2048, description="px a side of the crops")


class NoRestorer:
    Options: ClassVar[type[BaseModel]] = NoneOptions
    latents: tuple[str, ...] = ()

    def __init__(self, options: NoneOptions) -> None:
        self.size = options.size

    def open(self, device: torch.device) -> None: ...

    def restore(self, faces: FaceBatch, ctx: Context) -> Generator[Latent, Tensor, Tensor]:
        return faces.crops
        yield  # a generator that yields nothing
