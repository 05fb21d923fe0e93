"""blend=feather: a soft oval around the face, with the source's own colour.

The mask is fixed in the aligned crop, so it moves as steadily as the crop does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from vidrestore.api import FaceBatch


class FeatherOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    radius: float = Field(48, ge=1, le=256, description="width of the soft border in px of a crop of 512")
    color: float = Field(1.0, ge=0, le=1, description="how far the source's low frequencies are kept; 1 = entirely")


class Feather:
    Options: ClassVar[type[BaseModel]] = FeatherOptions

    def __init__(self, options: FeatherOptions) -> None:
        self.options = options

    def blend(self, faces: FaceBatch, restored: Tensor) -> tuple[Tensor, Tensor]:
        """restored f32 [n, 3, S, S] -> (colour-matched, alpha [n, 1, S, S])."""
        from vidrestore_plugins.blend.colour import coloured
        from vidrestore_plugins.blend.shapes import oval

        size = restored.shape[-1]
        alpha = oval(size, self.options.radius).to(restored).expand(len(faces), 1, size, size)
        if self.options.color:
            restored = coloured(restored, faces.crops, self.options.color)
        return restored, alpha
