"""degrade=flipnet: faces as FLIPNET has seen real footage show them, then a real codec for the whole film."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vidrestore.api import Film, Wear

    Picture = NDArray[np.uint8]  # RGB [h, w, 3]

Codec = Literal["libx264", "mpeg4", "mpeg2video"]


class FlipNetDegraderOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(8, ge=1, le=50, description="passes of the diffusion network a face")
    rho: float = Field(0.8, ge=0, le=1, description="share of the damage's texture that stays from frame to frame")
    preset: Literal["mild", "medium", "heavy"] = Field("medium", description="how hard the film is coded afterwards")
    weights: str = Field(
        "flipnet_mini", description="name in `vidrestore weights list`, or a file that `vidrestore train flipnet` made"
    )


class FlipNetDegrader:
    """The faces' damage comes from `restore=flipnet:mode=degrade`; the rest of the picture is only coded."""

    Options: ClassVar[type[BaseModel]] = FlipNetDegraderOptions

    def __init__(self, options: FlipNetDegraderOptions) -> None:
        self.options, o = options, options
        step = f"restore=flipnet:mode=degrade:steps={o.steps}:rho={o.rho:g}:weights={_quoted(o.weights)}"
        self.chain = f"{step},smooth=none,blend=feather:strength=1"

    def begin(self, film: Film) -> Wear:
        from vidrestore.quality.levels import drawn

        draw = drawn(self.options.preset, str(film.seed))
        return _Coded(draw.codec, draw.quality)


@dataclass(frozen=True)
class _Coded:
    """Nothing but a codec."""

    codec: Codec
    quality: int

    def before_coding(self, frame: Picture, _t: int) -> Picture:
        from vidrestore.quality.levels import enlarged, even

        height, width = frame.shape[:2]
        return enlarged(frame, even(width, 1), even(height, 1))


def _quoted(text: str) -> str:
    """A value as chains take it."""
    return "'" + text.replace("'", "'\\''") + "'"
