"""How well the bundled face detector repeats its teacher, and what it sees where nobody is.

    python bench/detector.py --teacher yunet_n_dynamic.onnx --media CLIPS [--data SHARDS] [--weights FILE] [--save DIR]

Pictures: every 5th frame of each clip, upright, shrunk to a longest side of 640 px, never enlarged. What YuNet
finds there at a score of 0.8 or more are the faces to be found; a face's *size* is the height of YuNet's box
in such a picture. Two boxes match at IoU 0.5, each taking part once, best overlap first.

- *found*: share of the faces that were matched.
- *degraded*: the picture shrunk four times (area means), noise of sigma 6, JPEG of quality 30, enlarged back
  (cubic); the faces to be found are those of the undamaged picture.
- *landmark error*: mean distance of the five points to YuNet's, in shares of the distance of YuNet's eyes;
  the mean over matched faces. Faces whose eyes are nearer than a fifth of their box's width are in profile:
  there the distance means nothing and they are left out.
- *teacher's own error*: the same between YuNet's points and those it finds in the picture moved by 4 px to
  the right and below, moved back.
- *false hits*: faces found in pictures without any: every frame of two spans of the clips, and the faceless
  photographs of the shards; those held out from training stand apart.

The exit code is 1 where a bar is missed. The pictures are test material and no training ever sees them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import torch

from vidrestore_plugins.detect.retinaface.plugin import RetinaFaceDetector, RetinaFaceOptions
from vidrestore_plugins.detect.retinaface.scenes import load_scenes
from vidrestore_plugins.detect.retinaface.teacher import YuNet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from vidrestore.api import Faces

    Picture = NDArray[np.uint8]  # RGB [h, w, 3]
    Look = Callable[[Picture], Faces]

SIDE, EVERY, SHIFT = 640, 5, 4
FACELESS = {"clean_leaves_hevc_720p.mp4": (7.5, 99.0), "low_film_1950s_cuts.mp4": (2.2, 4.8)}  # seconds


def frames(path: Path, every: int) -> Iterator[tuple[float, Picture]]:
    """Seconds and upright picture at side 640 of every so many frames."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 25)
        for i, frame in enumerate(container.decode(stream)):
            if i % every == 0:
                image = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                yield i / rate, shrunk(np.ascontiguousarray(image))


def shrunk(image: Picture) -> Picture:
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    if scale >= 1:
        return image
    out: Any = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    return out


def degraded(image: Picture, rng: np.random.Generator) -> Picture:
    height, width = image.shape[:2]
    small: Any = cv2.resize(image, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    small = np.clip(small + rng.normal(0, 6, small.shape), 0, 255).astype(np.uint8)
    _, coded = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])
    small = cv2.imdecode(coded, cv2.IMREAD_COLOR)[:, :, ::-1]
    out: Any = cv2.resize(np.ascontiguousarray(small), (width, height), interpolation=cv2.INTER_CUBIC)
    return out


def matches(want: Faces, got: Faces) -> NDArray[np.int64]:
    """[n]: for each wanted face the row of its match, or -1."""
    overlap = iou(want.boxes, got.boxes)
    out = np.full(len(want), -1, np.int64)
    while overlap.size and overlap.max() >= 0.5:
        i, j = np.unravel_index(overlap.argmax(), overlap.shape)
        out[i] = j
        overlap[i], overlap[:, j] = 0, 0
    return out


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    inside = np.prod(np.maximum(high - low, 0), axis=2)
    area = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b)]
    return np.asarray(inside / (area[0][:, None] + area[1][None] - inside), np.float32)


@dataclass
class Tally:
    """One row a face of the teacher: its size, whether it was found, how far off the landmarks were."""

    rows: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, want: Faces, got: Faces) -> None:
        for i, j in enumerate(matches(want, got)):
            box, points = want.boxes[i], want.landmarks[i]
            eyes = float(np.hypot(*(points[1] - points[0])))
            frontal = eyes >= 0.2 * (box[2] - box[0])
            error = np.linalg.norm(got.landmarks[j] - points, axis=1).mean() / eyes if j >= 0 and frontal else np.nan
            self.rows.append((float(box[3] - box[1]), float(j >= 0), float(error)))

    def between(self, low: float, high: float) -> tuple[int, float, float]:
        """Number of faces of that size, share found, mean landmark error."""
        rows = np.asarray([r for r in self.rows if low <= r[0] < high], np.float64).reshape(-1, 3)
        if not len(rows):
            return 0, float("nan"), float("nan")
        return (
            len(rows),
            float(rows[:, 1].mean()),
            float(np.nanmean(rows[:, 2])) if np.isfinite(rows[:, 2]).any() else float("nan"),
        )


@dataclass
class Report:
    """Prints a line a bar and remembers whether any was missed."""

    failed: bool = False

    def bar(self, what: str, count: int, value: float, bound: float, *, at_most: bool) -> None:
        good = value <= bound if at_most else value >= bound
        self.failed |= not good
        sign = "<=" if at_most else ">="
        print(f"{what:52s} {count:5d}  {value:8.4f} {sign} {bound:.4f}  {'pass' if good else 'MISSED'}", flush=True)


@dataclass
class Clips:
    """What was measured over the clips."""

    clean: Tally = field(default_factory=Tally)
    damaged: Tally = field(default_factory=Tally)
    teacher: Tally = field(default_factory=Tally)

    def look(self, path: Path, student: Look, teacher: YuNet) -> None:
        own, worse = Tally(), Tally()
        rng = np.random.default_rng(6)
        for _, image in frames(path, EVERY):
            want = teacher(image, 0.8)
            moved = np.pad(image, ((SHIFT, 0), (SHIFT, 0), (0, 0)), mode="edge")[: image.shape[0], : image.shape[1]]
            again = teacher(np.ascontiguousarray(moved), 0.5)
            again.boxes[:] -= SHIFT
            again.landmarks[:] -= SHIFT
            self.teacher.add(want, again)
            own.add(want, student(image))
            worse.add(want, student(degraded(image, rng)))
        n, share, error = own.between(24, 1e9)
        _, low, _ = worse.between(48, 1e9)
        print(
            f"  {path.name:34s} {n:5d} faces  found {share:6.3f}  degraded {low:6.3f}  landmarks {error:6.3f}",
            flush=True,
        )
        self.clean.rows += own.rows
        self.damaged.rows += worse.rows

    def report(self, report: Report) -> None:
        count, share, _ = self.clean.between(24, 1e9)
        report.bar("found, faces from 24 px", count, share, 0.92, at_most=False)
        count, share, _ = self.damaged.between(96, 1e9)
        report.bar("found when degraded, faces from 96 px", count, share, 0.95, at_most=False)
        count, share, _ = self.damaged.between(48, 96)
        report.bar("found when degraded, faces of 48 to 96 px", count, share, 0.75, at_most=False)
        profiles = sum(found > 0 and np.isnan(error) for size, found, error in self.clean.rows if size >= 24)
        print(f"{'faces left out of the landmark error, in profile':52s} {profiles:5d}")
        count, _, error = self.clean.between(96, 1e9)
        report.bar("landmark error, faces from 96 px", count, error, 0.06, at_most=True)
        count, _, error = self.clean.between(24, 96)
        _, _, own = self.teacher.between(24, 96)
        report.bar("landmark error, faces of 24 to 96 px", count, error, 1.5 * own, at_most=True)


def false_hits(pictures: list[tuple[str, Picture]], student: Look, save: Path | None) -> int:
    """Faces found; a cut-out of each is saved where a folder is given."""
    count = 0
    for name, image in pictures:
        found = student(image)
        count += len(found)
        for k in range(len(found)) if save else ():
            x0, y0, x1, y1 = found.boxes[k]
            grow = 0.5 * max(x1 - x0, y1 - y0)
            top, left = max(0, int(y0 - grow)), max(0, int(x0 - grow))
            part = image[top : int(y1 + grow), left : int(x1 + grow), ::-1].copy()
            cv2.rectangle(part, (int(x0) - left, int(y0) - top), (int(x1) - left, int(y1) - top), (0, 255, 0))
            cv2.imwrite(str(save / f"{name}_{k}_{found.scores[k]:.2f}.png"), part)  # type: ignore[operator]
    return count


def faceless(media: Path, data: Path | None) -> dict[str, list[tuple[str, Picture]]]:
    """Named pictures without faces, by where they come from."""
    out = {
        f"false hits, {name}": [
            (f"{Path(name).stem}_{seconds:.2f}", image)
            for seconds, image in frames(media / name, 1)
            if low <= seconds <= high
        ]
        for name, (low, high) in FACELESS.items()
        if (media / name).exists()
    }
    for split in ("train", "val") if data else ():
        scenes = [s for s in load_scenes(data, split) if not len(s.boxes)]  # type: ignore[arg-type]
        name = "held out" if split == "val" else "used in training"
        out[f"false hits, photographs {name}"] = [(f"{split}{i:03d}", shrunk(s.image)) for i, s in enumerate(scenes)]
    return out


def opened(arguments: argparse.Namespace) -> Look:
    """The detector on one picture at a time."""
    from vidrestore_plugins.detect.retinaface import plugin

    if arguments.weights:
        plugin.weights_path = lambda name: arguments.weights  # measure a file that is not bundled yet
    given = {} if arguments.threshold is None else {"threshold": arguments.threshold}
    detector = RetinaFaceDetector(RetinaFaceOptions(**given))
    detector.open(torch.device("cpu"))
    return lambda image: detector.detect(torch.from_numpy(image)[None])[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="YuNet's ONNX file")
    parser.add_argument("--media", type=Path, required=True, help="folder of clips")
    parser.add_argument("--data", type=Path, help="folder of the training shards, for their faceless photographs")
    parser.add_argument("--weights", type=Path, help="weights to measure instead of the bundled ones")
    parser.add_argument("--threshold", type=float, help="instead of the detector's default")
    parser.add_argument("--save", type=Path, help="folder for cut-outs of the false hits")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    student, teacher = opened(arguments), YuNet(arguments.teacher)
    report, clips = Report(), Clips()
    for path in sorted(p for p in arguments.media.iterdir() if p.is_file()):
        clips.look(path, student, teacher)
    clips.report(report)
    if arguments.save:
        arguments.save.mkdir(parents=True, exist_ok=True)
    seen = faceless(arguments.media, arguments.data)
    hits = {what: false_hits(pictures, student, arguments.save) for what, pictures in seen.items()}
    for what, pictures in seen.items():
        print(f"{what:52s} {len(pictures):5d}  {hits[what]:8d}")
    count = sum(len(pictures) for pictures in seen.values())
    report.bar("false hits a picture", count, sum(hits.values()) / max(1, count), 1 / 200, at_most=True)
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
