"""detect=none: finds nothing, so every frame passes as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from vidrestore.api import Faces

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class NoOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoDetector:
    """No faces in any picture."""

    Options: ClassVar[type[BaseModel]] = NoOptions
    side = 0  # no picture is looked at
    every = 1

    def __init__(self, options: NoOptions) -> None:
        self.options = options

    def open(self, device: torch.device) -> None:
        return None

    def detect(self, images: Tensor) -> list[Faces]:
        return [Faces.empty() for _ in range(len(images))]
