"""How well faces are restored: held-out faces and clean clips, damaged at known levels, against the truth.

    python bench/quality.py --media DIR --embedder mobilefacenet_112.safetensors --table quality.md
    python bench/quality.py --data DIR --embedder mobilefacenet_112.safetensors [--sheet sheet.png]

Clips: each is damaged, restored by `vidrestore` itself with every restorer (--steps) and smoother (--smooth), and by
ffmpeg's own filters, and measured as `vidrestore evaluate` does. --table writes means and spreads over clips as
Markdown, and every number beside it as CSV; it is written anew after each clip. What lacks its weights is left out.

Faces: PSNR in the aligned crop of 256 px and in the face's centre, identity (cosine of the embedder against the
truth), agreeing detail in the centre, for the input and each restorer.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vidrestore.config import resolve
from vidrestore.engine.strength import strength
from vidrestore.errors import ResourceError
from vidrestore.geometry.template import fit_similarity, template
from vidrestore.geometry.warp import warp
from vidrestore.media.colour import Region, read_rgb
from vidrestore.media.reader import PyAVDecoder
from vidrestore.media.recoding import coded, rgb, yuv420
from vidrestore.notes import Notes
from vidrestore.quality.evaluate import evaluate
from vidrestore.quality.levels import EYES, LEVELS, Draw, applied, damaged, generator
from vidrestore.quality.measures import agreeing_detail, centre, psnr
from vidrestore.quality.result import Evaluation
from vidrestore.quality.steadiness import warping_error
from vidrestore.testing import restored_faces
from vidrestore.train.embedder import Embedder, load_embedder, on_template
from vidrestore.train.portraits import as_tensor, load_portraits
from vidrestore.train.sheet import sheet, write_png
from vidrestore.types import FaceBatch

Frames = NDArray[np.uint8]  # RGB [t, h, w, 3]
SIDE, COUNT, RATE = 256, 48, 25
CLIPS = (
    "clean_talk_mpeg4_512.mp4",
    "clean_greenscreen_512.mp4",
    "clean_turn_720p.mp4",
    "clean_dolly_720p.mp4",
    "clean_phone_720x1280.mp4",
    "clean_glasses_talk_524.mp4",
)
STEPS = ("restore=classic", "restore=ldbfr", "restore=vspbfr", "restore=flipnet")
FFMPEG = "nlmeans=s=2:p=5:r=9,unsharp=7:7:0.8"  # what an editor without us would type
# what the table shows of a film: title and digits, by the measure's key
COLUMNS = {
    "psnr_face": ("PSNR face, dB", 2), "ids": ("identity", 3), "detail": ("agreeing detail", 3),
    "e_warp_error": ("E_warp of the error, 1e-3", 3), "vidd": ("VIDD", 3), "jitter_ratio": ("landmark jitter ratio", 2),
}  # fmt: skip
# a mark of its own: blurred 1.2 px, reduced threefold, noise 6, then enlarged and coded by x264 at crf 30
MARK = Draw((1.2, 1.2), 0.0, 3.0, cv2.INTER_AREA, 6.0, 0, "libx264", 4)
MARK_CRF = 30


@dataclass(frozen=True)
class Scores:
    psnr: float
    face: float  # PSNR in the centre
    identity: float
    detail: float
    flicker: float | None = None

    def __str__(self) -> str:
        flicker = "" if self.flicker is None else f"  {self.flicker:8.3f}"
        return f"{self.psnr:6.2f} dB  {self.face:6.2f} dB  {self.identity:.4f}  {self.detail:.3f}{flicker}"


class Judge:
    """Compares faces f32 [n, 3, 256, 256] in 0..1 with their truths."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    def who(self, faces: torch.Tensor) -> torch.Tensor:
        """Aligned faces [n, 3, s, s] -> [n, 128] of length 1."""
        return self.embedder(on_template(faces, side=faces.shape[-1]))[0]

    @torch.inference_mode()
    def __call__(self, faces: torch.Tensor, truth: torch.Tensor, motion: Any = None) -> Scores:
        a, b = (self.who(x) for x in (faces, truth))
        flicker = None
        if motion is not None:
            error = centre(faces - truth).permute(0, 2, 3, 1).contiguous().numpy()
            flicker = 1000 * warping_error(error, motion)
        return Scores(
            float(psnr(faces, truth).mean()),
            float(psnr(centre(faces), centre(truth)).mean()),
            float((a * b).sum(1).mean()),
            float(agreeing_detail(faces, truth).mean()),
            flicker,
        )


@dataclass(frozen=True)
class Restorer:
    """A restore step on faces that are no film, followed by the strength that their damage asks for."""

    name: str
    plugin: Any
    assessor: Any

    @torch.inference_mode()
    def __call__(self, faces: torch.Tensor) -> torch.Tensor:
        side = self.plugin.size
        crops = (
            torch.nn.functional.interpolate(faces, (side, side), mode="bicubic").clamp(0, 1) if side != SIDE else faces
        )
        out = torch.cat([self._one(crop[None]) for crop in crops])
        if side != SIDE:
            out = F.interpolate(out, (SIDE, SIDE), mode="area")
        damage = self.assessor.assess(faces)
        share = strength(np.stack([np.log2(damage.resolution), damage.noise, damage.coding], 1).astype(np.float64))
        return faces + torch.from_numpy(share)[:, None, None, None] * (out - faces)

    def _one(self, crop: torch.Tensor) -> torch.Tensor:
        zero = np.zeros(1, np.int64)
        batch = FaceBatch(crop, zero, zero, np.zeros(1), torch.ones(1, 32, 32), np.ones(1, np.float32))
        return restored_faces(self.plugin, batch)


def opened(step: str) -> Restorer | None:
    """None, said, where its weights are not here."""
    config = resolve(chain=step)
    plugin, assessor = config.step("restore").make(), config.step("assess").make()
    try:
        for one in (plugin, assessor):
            one.open(torch.device("cpu"))
    except ResourceError as error:
        print(f"  {step}: left out, {error}", flush=True)
        return None
    return Restorer(step, plugin, assessor)


def faces(arguments: argparse.Namespace, judge: Judge, steps: list[str]) -> None:
    """Held-out faces, each damaged as a film of one frame."""
    held = load_portraits(arguments.data, "val", arguments.terms)
    truth = torch.stack([as_tensor(image) for image in held.images])
    restorers = [r for r in map(opened, steps) if r]
    rows: list[torch.Tensor] = []
    for level in arguments.levels:
        seen = [damaged(x[None], level, f"face{i}", EYES * SIDE / 512)[0] for i, x in enumerate(held.images)]
        given = torch.stack([as_tensor(x) for x in seen])
        print(f"{len(truth)} {arguments.terms} faces, {level}\n  {'input':40s} {judge(given, truth)}", flush=True)
        outs = []
        for restorer in restorers:
            outs.append(restorer(given))
            print(f"  {restorer.name:40s} {judge(outs[-1], truth)}", flush=True)
        if level == "medium" or len(arguments.levels) == 1:
            rows = [given, *outs, truth]
    if arguments.sheet and rows:
        step = max(1, len(truth) // 24)
        picked = torch.cat([x[::step][:24] for x in rows])
        tiles = (picked * 255).round().byte().permute(0, 2, 3, 1).numpy()
        write_png(arguments.sheet, sheet(list(tiles), len(rows[0][::step][:24])))


@dataclass(frozen=True)
class Clip:
    """The first frames of a clean clip, and where its main face is."""

    name: str
    frames: Frames
    matrices: NDArray[np.float64]  # [t, 2, 3] onto the template of 256 px
    eyes: float  # median px between the eyes

    def aligned(self, frames: Frames) -> torch.Tensor:
        """f32 [t, 3, 256, 256] in 0..1."""
        pictures = [as_tensor(frame) for frame in frames]
        pairs = zip(pictures, self.matrices, strict=True)
        return torch.stack([warp(x, m, (SIDE, SIDE), "reflection") for x, m in pairs]).clamp(0, 1)


def clean_clip(path: Path, count: int = COUNT) -> Clip:
    frames = read(path, count)
    smooth = _steadied(landmarks(frames, path.name))
    eyes = float(np.median(np.linalg.norm(smooth[:, 1] - smooth[:, 0], axis=1)))
    return Clip(path.name, frames, fit_similarity(smooth, template(SIDE)), eyes)


def landmarks(frames: Frames, name: str) -> NDArray[np.float32]:
    """Of the largest face of each frame, [t, 5, 2] px."""
    detector = resolve().step("detect").make()
    detector.open(torch.device("cpu"))
    points = []
    for frame in frames:
        scale = min(1.0, detector.side / max(frame.shape[:2]))
        size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
        small = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
        found = detector.detect(torch.from_numpy(small)[None])[0]
        if not len(found):
            raise SystemExit(f"{name}: no face in a frame; leave it out with --clips")
        area = np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1)
        points.append(found.landmarks[area.argmax()] / scale)
    return np.stack(points)


def _steadied(track: NDArray[np.float32]) -> NDArray[np.float32]:
    """Landmarks [t, 5, 2] averaged over time with a Gaussian of 2 frames, so that the crop does not shake."""
    out: Any = cv2.sepFilter2D(track.reshape(len(track), 10), -1, np.ones(1), cv2.getGaussianKernel(13, 2.0))
    return np.asarray(out, np.float32).reshape(track.shape)


def read(path: Path, count: int = 0) -> Frames:
    """The first frames, with vidrestore's own colour: libswscale's quick one is a level too dark."""
    found = []
    with PyAVDecoder(PyAVDecoder.Options()).open(str(path), Notes()) as film:
        for frame in film.frames():
            whole = Region(0, 0, frame.layout.width, frame.layout.height)
            picture = (read_rgb(frame, whole).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            found.append(picture)
            if len(found) == count:
                break
    return np.stack(found)


def write(frames: Frames, path: Path) -> None:
    """4:2:0, as a damaged film would be, without further loss."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("ffv1", rate=RATE)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 6, 1  # BT.601, limited
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(yuv420(frame), format="yuv420p")))
        out.mux(stream.encode(None))


def through_vidrestore(source: Path, target: Path, step: str, encoder: tuple[str, ...] = ("-c:v", "ffv1")) -> Frames:
    restored_film(source, target, step, encoder)
    return read(target)


def restored_film(source: Path, target: Path, step: str, encoder: tuple[str, ...] = ("-c:v", "ffv1")) -> None:
    """Raises LookupError where weights are missing."""
    command = [sys.executable, "-m", "vidrestore", str(source), "-o", str(target), "-y", "-vf", step, *encoder]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == ResourceError.exit_code:
        raise LookupError(done.stderr.strip().splitlines()[-1].removeprefix("vidrestore: error: "))
    if done.returncode:
        raise SystemExit(done.stderr)


def through_ffmpeg(source: Path) -> Frames:
    """libavfilter's own denoising and sharpening."""
    with av.open(str(source)) as film:
        stream = film.streams.video[0]
        graph = av.filter.Graph()
        nodes = [graph.add_buffer(template=stream)]
        for text in FFMPEG.split(","):
            name, _, options = text.partition("=")
            nodes.append(graph.add(name, options))
        nodes.append(graph.add("buffersink"))
        graph.link_nodes(*nodes).configure()
        found = []
        for frame in [*film.decode(stream), None]:
            graph.push(frame)
            while True:
                try:
                    found.append(rgb(graph.pull().to_ndarray()))
                except (av.BlockingIOError, av.EOFError):
                    break
    return np.stack(found)


@dataclass(frozen=True)
class Row:
    """What one method made of one damaged clip."""

    clip: str
    level: str
    method: str
    values: dict[str, float]  # by the measure's key


class Table:
    """Rows as they come, and the files they are written to."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.rows = path, list[Row]()

    def add(self, clip: str, level: str, method: str, found: Evaluation, role: str = "restored") -> None:
        values = {key: found.value(key, role) for key in COLUMNS}
        row = Row(clip, level, method, {key: value for key, value in values.items() if value is not None})
        self.rows.append(row)
        print(f"  {method:40s} {self._told(row.values, {})}", flush=True)

    def write(self) -> None:
        if self.path is None:
            return
        with self.path.with_suffix(".csv").open("w", newline="") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(["clip", "level", "method", *COLUMNS])
            for row in self.rows:
                numbers = (row.values.get(key) for key in COLUMNS)
                out.writerow([row.clip, row.level, row.method, *("" if n is None else f"{n:.5g}" for n in numbers)])
        self.path.write_text(
            "\n\n".join(self._level(level) for level in dict.fromkeys(r.level for r in self.rows)) + "\n"
        )

    def _level(self, level: str) -> str:
        here = [row for row in self.rows if row.level == level]
        count = len({row.clip for row in here})
        lines = [
            f"| {level}, {count} clip{'s' * (count != 1)} | "
            + " | ".join(title for title, _ in COLUMNS.values())
            + " |",
            "|---|" + "---|" * len(COLUMNS),
        ]
        for method in dict.fromkeys(row.method for row in here):
            rows = [row.values for row in here if row.method == method]
            numbers = {key: [r[key] for r in rows if key in r] for key in COLUMNS}
            means = {key: float(np.mean(x)) for key, x in numbers.items() if x}
            spread = {key: float(np.std(x)) for key, x in numbers.items() if len(x) > 1}
            lines.append(f"| {method} | {self._told(means, spread, ' | ')} |")
        return "\n".join(lines)

    @staticmethod
    def _told(means: dict[str, float], spread: dict[str, float], between: str = "  ") -> str:
        def one(key: str) -> str:
            digits = COLUMNS[key][1]
            around = f" ± {spread[key]:.{digits}f}" if key in spread else ""
            return f"{means[key]:.{digits}f}{around}" if key in means else ""

        return between.join(f"{one(key):>7s}" if between == "  " else one(key) for key in COLUMNS)


def clips(arguments: argparse.Namespace, judge: Judge, steps: list[str], folder: Path) -> None:
    table, config = Table(arguments.table), resolve(settings={"device": "cpu"})
    truth, source, out = folder / "truth.mkv", folder / "damaged.mkv", folder / "out.mkv"

    def measured(film: Path, **paths: Path) -> Evaluation:
        films = {"restored": str(film), "reference": str(truth)} | {role: str(path) for role, path in paths.items()}
        return evaluate(films, config, Notes(), who=judge.who)

    for name in arguments.clips:
        clip = clean_clip(arguments.media / name, arguments.frames)
        write(clip.frames, truth)
        for level in arguments.levels:
            frames = mark(clip) if level == "mark" else damaged(clip.frames, level, name, clip.eyes)
            write(frames, source)
            print(f"{name}, {clip.eyes:.0f} px between the eyes, {level}", flush=True)
            print(f"  {'':40s} {'  '.join(COLUMNS)}")
            write(through_ffmpeg(source), out)
            found = measured(out, source=source)
            table.add(name, level, "truth", found, "reference")
            table.add(name, level, "input", found, "source")
            table.add(name, level, "ffmpeg " + FFMPEG, found)
            for step in list(steps):
                for smooth in arguments.smooth:
                    chain = f"{step},smooth={smooth}"
                    try:
                        restored_film(source, out, chain)
                    except LookupError as error:
                        print(f"  {step} is left out: {error}", flush=True)
                        steps.remove(step)
                        break
                    table.add(name, level, chain, measured(out))
            table.write()
        if steps and arguments.untouched:
            untouched(arguments.media / name, clip, judge, steps[0], folder)


def mark(clip: Clip) -> Frames:
    noisy = applied(clip.frames, MARK, lambda t: generator("mark", "talk", 1000 + t))
    return coded(noisy, "libx264", MARK_CRF)


def untouched(source: Path, clip: Clip, judge: Judge, step: str, folder: Path) -> None:
    """What comes back of a clip that is not damaged: whole frames, and who is in it."""
    film = through_vidrestore(source, folder / "same.mkv", step, ("-c:v", "libx264", "-crf", "4", "-to", "2"))
    frames = film[: len(clip.frames)]
    error = np.mean((frames.astype(np.float64) - clip.frames) ** 2)
    same = judge(clip.aligned(frames), clip.aligned(clip.frames))
    whole = 10 * np.log10(255**2 / max(error, 1e-9))
    print(
        f"  undamaged, crf 4: whole frames {whole:.2f} dB, face {same.face:.2f} dB, identity {same.identity:.4f}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of faces: held-out ones are measured")
    parser.add_argument("--media", type=Path, help="folder of clips")
    parser.add_argument("--embedder", type=Path, required=True, help="MobileFaceNet's safetensors")
    parser.add_argument("--weights", default="", help="LD-BFR's weights file instead of the bundled one")
    parser.add_argument("--terms", default="free", help="which held-out faces: free or research")
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), choices=[*LEVELS, "mark"])
    parser.add_argument("--clips", nargs="+", default=list(CLIPS), help="names of clean clips in the folder")
    parser.add_argument("--frames", type=int, default=COUNT, help="of each clip")
    parser.add_argument("--steps", nargs="+", default=list(STEPS), help="restore steps")
    parser.add_argument("--smooth", nargs="+", default=["none", "auto"], help="smoothers, for clips")
    parser.add_argument("--table", type=Path, help="Markdown of the clips' table; the CSV lies beside it")
    parser.add_argument(
        "--untouched", action="store_true", help="restore the undamaged clips too, and say what changed"
    )
    parser.add_argument("--sheet", type=Path, help="PNG of 24 faces: input, each restorer, truth in rows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    judge = Judge(load_embedder(arguments.embedder))
    steps = [
        s.replace("=ldbfr", f"=ldbfr:weights={arguments.weights}") if arguments.weights else s for s in arguments.steps
    ]
    if arguments.data:
        faces(arguments, judge, steps)
    if arguments.media:
        with tempfile.TemporaryDirectory() as folder:
            clips(arguments, judge, steps, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
