"""What the assessor says of real clips, and what strength=auto makes of it: python bench/assess.py --media CLIPS

Every clip's first frames go through the pipeline up to the assessor, with restore=none. A row gives the number of
faces seen (one a frame), the median side in source px of the FFHQ crop (below 256 the crop is an enlargement and
honestly coarser than its grid), the medians of the three measures, the mean strength and the share of the faces left
untouched. Clips are *clean* or *low* by their names; each clean one comes a second time, damaged as old video is:
blur 1.2 px, three times smaller (area means), noise of sigma 6, x264 at crf 30, enlarged back (cubic).

The exit code is 1 where a bar is missed: clean clips whose crop has 256 source px or more have a mean strength of at
most 0.1; damaged ones whose crop has 512 or less, of at least 0.9 (a third of a larger one is still fine enough for
the grid on which damage is counted).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np

from vidrestore.config import resolve
from vidrestore.engine.clock import Clock
from vidrestore.engine.flags import read_settings
from vidrestore.engine.pipeline import restored
from vidrestore.engine.record import Record
from vidrestore.engine.staging import stages_of
from vidrestore.media.recoding import coded
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from torch import Tensor

    from vidrestore.hooks import Assessor
    from vidrestore.types import Damage

CLEAN, DAMAGED = 0.1, 0.9  # mean strengths: at most, at least
SHRINK = 3
GRID = 256  # px: where damage is counted


@dataclass
class Listening:
    """An assessor that keeps what it said."""

    inner: Assessor
    said: list[Damage] = field(default_factory=list)

    def assess(self, crops: Tensor) -> Damage:
        self.said.append(self.inner.assess(crops))
        return self.said[-1]


@dataclass(frozen=True)
class Row:
    """One clip."""

    name: str
    faces: int
    side: float  # median, source px
    measures: tuple[float, float, float]  # medians: resolution, noise and coding in steps of 8 bits
    strength: float
    untouched: float

    def __str__(self) -> str:
        resolution, noise, coding = self.measures
        return (
            f"| {self.name:38s} | {self.faces:4d} | {self.side:5.0f} | {resolution:5.2f} | {noise:5.2f} "
            f"| {coding:5.2f} | {self.strength:5.3f} | {self.untouched:5.3f} |"
        )


def look(path: Path, name: str, frames: int, assessor: str) -> Row | None:
    """None where no face was seen."""
    chain = f"assess={assessor},restore=none:size=512"
    config = resolve(chain=chain, environment={}, settings={"device": "cpu", "threads": 1})
    stages = stages_of(config, Record(str(path), "-", config))
    listening = Listening(stages.restore.strength)  # type: ignore[arg-type]
    stages = replace(stages, restore=replace(stages.restore, strength=listening))
    sides: list[float] = []
    strengths: list[float] = []
    notes = Notes()
    with config.step("decode").make().open(str(path), notes, settings=read_settings(config)) as source:
        window: Any = None
        for _, seen in restored(islice(source.frames(), frames), stages, notes, Clock()):
            if seen is not window:
                window = seen
                strengths += window.strengths.tolist()
                sides += (512 / np.sqrt(np.abs(np.linalg.det(window.placed.matrices[:, :, :2])))).tolist()
    if not strengths:
        return None
    table = np.concatenate([np.stack([d.resolution, 255 * d.noise, 255 * d.coding], 1) for d in listening.said])
    resolution, noise, coding = np.median(table, 0).tolist()
    untouched = float((np.asarray(strengths) == 0).mean())
    mean = float(np.mean(strengths))
    return Row(name, len(strengths), float(np.median(sides)), (resolution, noise, coding), mean, untouched)


def damaged(path: Path, frames: int, out: Path) -> None:
    """Write the clip's first frames as bad video, at their size."""
    with av.open(str(path), metadata_errors="replace") as container:
        pictures = [
            np.rot90(f.to_ndarray(format="rgb24"), f.rotation // 90) for f in islice(container.decode(video=0), frames)
        ]
    height, width = (side - side % (2 * SHRINK) for side in pictures[0].shape[:2])
    rng = np.random.default_rng(9)
    small = []
    for picture in pictures:
        soft = cv2.GaussianBlur(np.ascontiguousarray(picture[:height, :width]), (0, 0), 1.2)
        reduced = cv2.resize(soft, (width // SHRINK, height // SHRINK), interpolation=cv2.INTER_AREA)
        small.append(np.clip(reduced + rng.normal(0, 6, reduced.shape), 0, 255).round().astype(np.uint8))
    with av.open(str(out), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"crf": "4", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in coded(np.stack(small), "libx264", 30):
            large = cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(large, format="rgb24")))
        container.mux(stream.encode(None))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, required=True, help="folder of the clips")
    parser.add_argument("--frames", type=int, default=48, help="of each clip")
    parser.add_argument("--assess", default="head", help="plugin")
    arguments = parser.parse_args()
    print("| clip | faces | side | resolution | noise | coding | strength | untouched |\n" + "|---" * 8 + "|")
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted([*arguments.media.glob("clean_*"), *arguments.media.glob("low_*")]):
            row = look(path, path.name, arguments.frames, arguments.assess)
            print(row or f"| {path.name} | 0 |", flush=True)
            if row is None or path.name.startswith("low_"):
                continue
            missed += row.side >= GRID and row.strength > CLEAN
            bad = Path(folder) / f"{path.stem}.mkv"
            damaged(path, arguments.frames, bad)
            row = look(bad, f"{path.stem}, damaged", arguments.frames, arguments.assess)
            print(row or f"| {path.stem}, damaged | 0 |", flush=True)
            missed += row is not None and row.side <= 2 * GRID and row.strength < DAMAGED
    print(f"{missed} bars missed" if missed else "all bars passed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
