"""How steady restored films are, and what steadiness costs: smoothers against the same restorer frame by frame.

    python bench/steady.py --media DIR --embedder mobilefacenet_112.safetensors [--weights FILE] [--sheet sheet.png]

Clean clips are damaged at a known level, restored by `vidrestore` itself with `smooth=none` and with each smoother,
and compared with the truth in aligned crops of 256 px. Against frame by frame: E_warp of the error (its flicker) and
VIDD's excess over the truth as ratios, landmark jitter as a ratio and that of its error alone, PSNR and identity as
differences, agreeing detail as a ratio; whether mouth and eyes move as they do frame by frame, and in step. Clips named
first with --tune chose the smoother's numbers; the means are given without them too. `oracle` fuses along the truth's
own flow: what no smoother of this kind can do better. Lines that begin with `crop` tell how its pose shakes and errs:
jitter (second difference) and distance from the clean film's, in percent of a face width, of radians and log scale.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from quality import RATE, SIDE, Clip, Judge, Scores, clean_clip, landmarks, read, through_vidrestore, write

from vidrestore import registry
from vidrestore.config import resolve
from vidrestore.engine.align import AlignOptions
from vidrestore.geometry.steady import FixedLag
from vidrestore.geometry.template import fit_similarity, pose_of, template
from vidrestore.quality.faces import landmarks as landmarks_of
from vidrestore.quality.levels import LEVELS, damaged
from vidrestore.quality.measures import centre
from vidrestore.quality.steadiness import flows, identity_motion, jitter
from vidrestore.train.embedder import load_embedder, on_template
from vidrestore.train.sheet import sheet, write_png
from vidrestore.types import Stretch

TUNE = ("clean_talk_mpeg4_512.mp4", "clean_dolly_720p.mp4", "clean_phone_720x1280.mp4")
OTHERS = (
    "clean_greenscreen_512.mp4", "clean_turn_720p.mp4", "clean_glasses_talk_524.mp4", "clean_bigmotion_512.mp4",
)  # fmt: skip
PARTS = {"mouth": (0.32, 0.64, 0.68, 0.86), "eyes": (0.24, 0.40, 0.76, 0.54)}  # x0 y0 x1 y1 of a crop
# what a smoother must show against frame by frame: name -> (bound, whether more is better)
BARS = {
    "E_warp": (0.85, False), "VIDD": (0.85, False), "jitter": (0.7, False), "PSNR": (-0.05, True),
    "identity": (-0.005, True), "detail": (0.97, True), "E_input": (1.0, False), "mouth": (0.97, True),
    "eyes": (0.97, True),
}  # fmt: skip


@dataclass(frozen=True)
class Film:
    """Aligned faces of a film and all that is measured of them."""

    faces: torch.Tensor
    scores: Scores
    vidd: float
    jitter: float
    error_jitter: float


@dataclass(frozen=True)
class Against:
    """A smoothed film against the one restored frame by frame."""

    E_warp: float
    E_input: float  # against the damaged film's
    VIDD: float
    jitter: float
    error_jitter: float
    PSNR: float
    identity: float
    detail: float
    mouth: float
    eyes: float
    lag: float

    def __str__(self) -> str:
        return "  ".join(f"{f.name} {getattr(self, f.name):6.3f}" for f in fields(self))


class Eye:
    """Measures films of one clip."""

    def __init__(self, judge: Judge, truth: torch.Tensor) -> None:
        self.judge, self.truth = judge, truth
        self.motion = flows((centre(truth) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy())
        self.detector = resolve().step("detect").make()
        self.detector.open(torch.device("cpu"))
        self.points = self._landmarks(truth)
        self.vidd = identity_motion(self._who(truth))

    def __call__(self, faces: torch.Tensor) -> Film:
        points = self._landmarks(faces)
        scores = self.judge(faces, self.truth, self.motion)
        vidd = identity_motion(self._who(faces)) - self.vidd
        eyes = np.linalg.norm(self.points[:, 1] - self.points[:, 0], axis=1).mean()
        return Film(faces, scores, vidd, jitter(points, eyes), jitter(points - self.points, eyes))

    @torch.inference_mode()
    def _who(self, faces: torch.Tensor) -> NDArray[np.float32]:
        return self.judge.embedder(on_template(faces))[0].numpy()

    def _landmarks(self, faces: torch.Tensor) -> NDArray[np.float32]:
        """[t, 5, 2] px of the crop; where nothing is found, those of the frame before."""
        points = landmarks_of(faces, self.detector)
        for t in range(1, len(points)):
            if np.isnan(points[t]).any():
                points[t] = points[t - 1]
        return points


def against(film: Film, alone: Film, given: Film) -> Against:
    (mouth, lag), (eyes, other) = (follows(film.faces, alone.faces, box) for box in PARTS.values())
    one, two = film.scores, alone.scores
    return Against(
        E_warp=one.flicker / two.flicker, E_input=one.flicker / given.scores.flicker, VIDD=film.vidd / alone.vidd,
        jitter=film.jitter / alone.jitter, error_jitter=film.error_jitter / alone.error_jitter,
        PSNR=one.psnr - two.psnr, identity=one.identity - two.identity, detail=one.detail / two.detail,
        mouth=mouth, eyes=eyes, lag=max(lag, other, key=abs),
    )  # fmt: skip


def follows(faces: torch.Tensor, alone: torch.Tensor, box: tuple[float, float, float, float]) -> tuple[float, float]:
    """How a part of the face moves as it does frame by frame: the correlation over time of its main change (the first
    principal component of its pixels), and the shift in frames at which that is largest."""
    x0, y0, x1, y1 = (round(share * SIDE) for share in box)
    a, b = (F.avg_pool2d(x[:, :, y0:y1, x0:x1].mean(1, keepdim=True), 2).flatten(1) for x in (faces, alone))
    a, b = a - a.mean(0), b - b.mean(0)
    main = torch.linalg.svd(b, full_matrices=False).Vh[0]
    p, q = (a @ main).numpy(), (b @ main).numpy()
    shifts = range(-3, 4)
    inner = slice(3, len(p) - 3)
    found = [float(np.corrcoef(p[3 + s : len(p) - 3 + s], q[inner])[0, 1]) for s in shifts]
    return found[3], float(shifts[int(np.argmax(found))])


def oracle(alone: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The film restored frame by frame, fused along the truth's flow."""
    cls = registry.find("smooth", "fuse")
    n = len(truth)
    times, present = torch.arange(n, dtype=torch.float64) / 25, torch.ones(1, n, dtype=torch.bool)
    stretch = Stretch("crop", alone[None], truth[None], times, torch.zeros(1, n, 1, 1, 1), present, n)
    with torch.inference_mode():
        smoothed: torch.Tensor = cls(cls.Options(latents="crop")).smooth(stretch, None)[0]
    return smoothed[0]


def crops(clip: Clip, frames: NDArray[np.uint8]) -> str:
    """The pose of the damaged film's crop, searched on every second frame: the line between, and smoothed."""
    points, at = landmarks(frames, clip.name).reshape(len(frames), 10), np.arange(0, len(frames), 2)
    line = np.stack([np.interp(np.arange(len(frames)), at, points[at, i]) for i in range(10)], 1).reshape(-1, 5, 2)
    truth = pose_of(clip.matrices, SIDE)
    unit = np.array([np.exp(truth[0, 2]) * SIDE / 2] * 2 + [1, 1])  # a face's width is about half the crop's side
    raw, truth = pose_of(fit_similarity(line, template(SIDE)), SIDE) / unit, truth / unit
    align = AlignOptions.model_validate({})
    seen, times = np.isin(np.arange(len(raw)), at), np.arange(len(raw)) / RATE
    smooth, _ = FixedLag(align.push, align.noise, align.lookahead).smooth(raw, times, seen, len(raw), None)

    def told(pose: NDArray[np.float64]) -> str:
        shake, error = np.abs(np.diff(pose, 2, axis=0)).mean(0), np.sqrt(np.square(pose - truth).mean(0))
        both = [(100 * x[:2].mean(), 100 * x[2:].mean()) for x in (shake, error)]
        return "jitter {:.3f} {:.3f} error {:.2f} {:.2f}".format(*both[0], *both[1])

    return f"crop as found: {told(raw)}; smoothed: {told(smooth)}; of the clean film: {told(truth)}"


def measured(clip: Clip, arguments: argparse.Namespace, judge: Judge, folder: Path) -> dict[str, Against]:
    """Every smoother on one clip; the first columns of the sheet are written on the way."""
    eye = Eye(judge, clip.aligned(clip.frames))
    source = folder / "damaged.mkv"
    frames = damaged(clip.frames, arguments.level, clip.name, clip.eyes)
    write(frames, source)
    weights = f":weights={arguments.weights}" if arguments.weights else ""
    step = arguments.restore + weights

    def film(smooth: str) -> Film:
        return eye(clip.aligned(through_vidrestore(source, folder / "out.mkv", f"{step},smooth={smooth}")))

    given, alone = eye(clip.aligned(read(source))), film("none")
    films = {smooth: film(smooth) for smooth in arguments.smooth}
    films["oracle"] = eye(oracle(alone.faces, eye.truth))
    print(
        f"{clip.name}: E_warp input {given.scores.flicker:.3f}, frame by frame {alone.scores.flicker:.3f}", flush=True
    )
    print(f"  {crops(clip, frames)}", flush=True)
    found = {name: against(one, alone, given) for name, one in films.items()}
    for name, row in found.items():
        print(f"  {name:28s} {row}", flush=True)
    if arguments.sheet:
        rows = [x.faces for x in (given, alone, *films.values())] + [eye.truth]
        shown = torch.cat([x[20:28] for x in rows]).clamp(0, 1)
        tiles = (shown * 255).round().byte().permute(0, 2, 3, 1).numpy()
        write_png(arguments.sheet.with_stem(f"{arguments.sheet.stem}_{Path(clip.name).stem}"), sheet(list(tiles), 8))
    return found


def summary(found: list[dict[str, Against]], title: str) -> None:
    print(f"\nmeans and spreads over {title}")
    for name in found[0]:
        print(f"  {name}")
        for field in fields(Against):
            values = np.array([getattr(one[name], field.name) for one in found])
            bound, more = BARS.get(field.name, (None, False))
            verdict = ""
            if bound is not None:
                met = values.mean() >= bound if more else values.mean() <= bound
                verdict = f"  {'>=' if more else '<='} {bound:g}  {'pass' if met else 'MISSED'}"
            print(f"    {field.name:13s} {values.mean():7.3f} +- {values.std():.3f}{verdict}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, required=True, help="folder of clean clips")
    parser.add_argument("--embedder", type=Path, required=True, help="MobileFaceNet's safetensors")
    parser.add_argument("--restore", default="restore=ldbfr", help="restore step")
    parser.add_argument("--weights", default="", help="its weights file instead of the bundled one")
    parser.add_argument("--smooth", nargs="+", default=["auto"], help="smoothers, e.g. auto fuse:latents=crop")
    parser.add_argument("--level", default="medium", choices=list(LEVELS))
    parser.add_argument("--tune", nargs="*", default=list(TUNE), help="clips that the defaults were chosen on")
    parser.add_argument("--clips", nargs="*", default=list(OTHERS), help="clips that only judge")
    parser.add_argument("--sheet", type=Path, help="PNG a clip: input, frame by frame, each smoother, oracle, truth")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    judge = Judge(load_embedder(arguments.embedder))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in [*arguments.tune, *arguments.clips]:
            found[name] = measured(clean_clip(arguments.media / name), arguments, judge, Path(folder))
    for title, names in (("all clips", found), ("clips that only judge", arguments.clips)):
        if names:
            summary([found[name] for name in names], title)
    return 0


if __name__ == "__main__":
    sys.exit(main())
