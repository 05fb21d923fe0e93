"""blend=laplacian: fine detail changes over within a few pixels, coarse tones over a wide border.

P. J. Burt, E. H. Adelson: "A multiresolution spline with application to image mosaics", ACM Transactions on Graphics
2 (4), 1983: L_k of the blend = G_k(mask) L_k(restored) + (1 - G_k(mask)) L_k(source).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from vidrestore.api import FaceBatch

_SMALLEST: Final = 8  # px a side of the coarsest level
_BORDER: Final = 16  # px of a crop of 512 over which the blend ends at the crop's own border


class LaplacianOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: int = Field(5, ge=1, le=7, description="of the pyramids; more: coarse tones change over more widely")
    radius: float = Field(12, ge=1, le=256, description="width of the finest level's border in px of a crop of 512")


class Laplacian:
    Options: ClassVar[type[BaseModel]] = LaplacianOptions

    def __init__(self, options: LaplacianOptions) -> None:
        self.options = options

    def blend(self, faces: FaceBatch, restored: Tensor) -> tuple[Tensor, Tensor]:
        """restored f32 [n, 3, S, S] -> (blended with its crop, alpha [n, 1, S, S]: 1 but for the crop's own border)."""
        import torch

        from vidrestore_plugins.blend.shapes import border, oval

        size = restored.shape[-1]
        mask = oval(size, self.options.radius).to(restored)[None]
        masks = [mask]
        for _ in range(self._depth(size)):
            masks.append(_reduced(masks[-1]))
        ours, theirs = _pyramid(restored, len(masks)), _pyramid(faces.crops, len(masks))
        blended: Tensor | None = None
        for m, a, b in zip(reversed(masks), reversed(ours), reversed(theirs), strict=True):
            level = m * a + (1 - m) * b
            blended = level if blended is None else level + _expanded(blended, level.shape[-1])
        assert blended is not None
        alpha = border(size, _BORDER).to(restored).expand(len(faces), 1, size, size)
        return torch.where(alpha > 0, blended, faces.crops), alpha

    def _depth(self, size: int) -> int:
        depth = 0
        while depth < self.options.levels and size % 2 == 0 and size > _SMALLEST:
            size, depth = size // 2, depth + 1
        return depth


def _pyramid(x: Tensor, levels: int) -> list[Tensor]:
    """Differences from level to level, and what is left."""
    found = []
    for _ in range(levels - 1):
        small = _reduced(x)
        found.append(x - _expanded(small, x.shape[-1]))
        x = small
    return [*found, x]


def _reduced(x: Tensor) -> Tensor:
    from kornia.geometry.transform import pyrdown

    small: Tensor = pyrdown(x, border_type="reflect", align_corners=False)
    return small


def _expanded(x: Tensor, size: int) -> Tensor:
    import torch.nn.functional as F

    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False)
