"""What was blended into each frame, kept as masks; and the proof that nothing else was touched."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vidrestore.errors import RunError
from vidrestore.media.masks import MaskFilm, mask_frame, mask_settings, no_mask, outside_sum, sums_text
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from fractions import Fraction
    from pathlib import Path

    from vidrestore.media.masks import Mask
    from vidrestore.media.writer import Sink
    from vidrestore.types import Frame, Patch, Window

DECODED: Final = "the output, decoded"
FINISHED: Final = "the frames before they were encoded"
SUMS: Final = ".outside.framemd5"  # behind the name of the masks


def mask_of(frame: Frame, patches: list[Patch]) -> Mask:
    """u8 [h, w]: 0 where no patch adds anything, else its alpha of 255ths, rounded up."""
    mask = no_mask(frame.layout)
    for patch in patches:
        height, width = patch.alpha.shape
        here = mask[patch.y0 : patch.y0 + height, patch.x0 : patch.x0 + width]
        alpha = (patch.alpha * 255).ceil().clamp(0, 255).numpy().astype("uint16")
        here[...] = (here + alpha[: here.shape[0], : here.shape[1]]).clip(0, 255)
    return mask


@dataclass(slots=True)
class Masks:
    """Writes the mask of every finished frame, and sums what lies outside."""

    sink: Sink
    subject: str
    times: list[tuple[int, int]] = field(default_factory=list)  # (pts, duration)
    sums: list[str] = field(default_factory=list)

    def see(self, frame: Frame, window: Window | None) -> None:
        """Enter a finished frame. Raises RunError (6) where anything outside its mask was changed."""
        row = 0 if window is None else frame.index - window.frames[0].index
        patches = [] if window is None else [p for p in window.patches if p.row == row]
        mask = mask_of(frame, patches)
        outside = outside_sum(frame.planes, frame.layout, mask)
        if window is not None and patches:
            before = window.frames[row]
            if outside_sum(before.planes, before.layout, mask) != outside:
                raise RunError(self.subject, f"frame {frame.index} was changed outside its mask", "report this fault")
        self.times.append((frame.pts, frame.duration))
        self.sums.append(outside)
        self.sink.write(mask_frame(frame, mask))


@dataclass(slots=True)
class MasksBeside(Masks):
    """The masks of a run at once."""

    path: Path = field(kw_only=True)
    time_base: Fraction = field(kw_only=True)
    out: bool = False  # published

    def publish(self) -> dict[str, Any]:
        """The whole film of masks appears under its name. Gives what the record says of it."""
        self.sink.finish()
        self.out = True
        return published(self.path, self.times, self.time_base, self.sums, FINISHED)

    def withdraw(self) -> None:
        """Take back what was published: its film did not come to be."""
        if self.out:
            self.path.unlink(missing_ok=True)
            self.path.with_name(self.path.name + SUMS).unlink(missing_ok=True)


@contextmanager
def masks_into(path: Path, film: Any, threads: int, *, overwrite: bool) -> Iterator[MasksBeside]:
    """A film of masks. ``film``: as its frames are when they have been finished. Raises OutputError (5)."""
    from vidrestore.media.writer import PyAVEncoder

    masked: Any = MaskFilm(film)
    with PyAVEncoder().open(path, masked, mask_settings(threads), Notes(), overwrite=overwrite) as sink:
        yield MasksBeside(sink, film.info.path, path=path, time_base=film.info.time_base)  # type: ignore[arg-type]


def published(
    masks: Path, times: Sequence[tuple[int, int]], time_base: Fraction, sums: Sequence[str], of: str
) -> dict[str, Any]:
    """Write the sums beside the masks; what the record says of both."""
    from vidrestore.engine.record import write_text
    from vidrestore.media.segments import sha256_of

    beside = masks.with_name(masks.name + SUMS)
    write_text(beside, sums_text(times, time_base, sums, masks.name, of))
    return {
        "file": masks.name,
        "sha256": sha256_of(masks, lambda: None),
        "outside": {"file": beside.name, "sha256": sha256_of(beside, lambda: None), "of": of},
        "frames": len(sums),
    }
