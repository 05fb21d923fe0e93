"""degrade=classic: damage by formula: blur, loss of size, noise, coding; worn film; a video cassette."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vidrestore.api import Film, Wear

    Picture = NDArray[np.uint8]  # RGB [h, w, 3]

Codec = Literal["libx264", "mpeg4", "mpeg2video"]
Preset = Literal["mild", "medium", "heavy", "old-film", "vhs"]


class ClassicOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Preset = Field(
        "medium", description="how much: mild, medium, heavy; old-film: grey, grain, scratches; vhs: a cassette"
    )
    eyes: float = Field(
        0, ge=0, le=2000, description="px between the eyes of the main face, by which lengths scale; 0: as found"
    )


class ClassicDegrader:
    """One draw a film, noise anew for each frame; the film's name in a draw is its seed."""

    Options: ClassVar[type[BaseModel]] = ClassicOptions
    chain = ""

    def __init__(self, options: ClassicOptions) -> None:
        self.options = options

    def begin(self, film: Film) -> Wear:
        from vidrestore.quality import levels, old_film, vhs

        preset, name = self.options.preset, str(film.seed)
        eyes = self.options.eyes or film.eyes or levels.EYES * min(film.width, film.height) / 512
        rng = levels.generator(preset, name, 0)
        drawn: Any
        if preset == "old-film":
            drawn = old_film.drawn(rng, film.width, film.height, film.frames, eyes)
        elif preset == "vhs":
            drawn = vhs.drawn(rng, film.width, film.height, eyes)
        else:
            drawn = levels.drawn(preset, name, eyes)
        return _Drawn(preset, name, drawn)


@dataclass(frozen=True)
class _Drawn:
    """One film's damage, with the generators of its frames."""

    preset: Preset
    name: str
    drawn: Any  # levels.Draw, OldFilm or VHS

    @property
    def codec(self) -> Codec:
        codec: Codec = self.drawn.codec
        return codec

    @property
    def quality(self) -> int:
        return int(self.drawn.quality)

    def before_coding(self, frame: Picture, t: int) -> Picture:
        from vidrestore.quality.levels import generator

        out: Picture = self.drawn.before_coding(frame, t, generator(self.preset, self.name, 1000 + t))
        return out
