"""blend=none: the whole crop, as the restorer gave it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

    from vidrestore.api import FaceBatch


class NoneOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoBlender:
    Options: ClassVar[type[BaseModel]] = NoneOptions

    def __init__(self, options: NoneOptions) -> None: ...

    def blend(self, faces: FaceBatch, restored: Tensor) -> tuple[Tensor, Tensor]:
        """alpha is 1 everywhere: f32 [n, 1, S, S]."""
        return restored, restored.new_ones(len(faces), 1, *restored.shape[-2:])
