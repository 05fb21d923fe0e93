"""What damage is like: made by formulas, made by a network, and real.

    python bench/degradations.py --data DIR --media DIR [--weights FILE] [--out FILE.svg] [--sheet FILE.png]

Held-out faces are damaged at the levels of `vidrestore degrade` and by `restore=flipnet:mode=degrade`, a seed each
out of five; real faces are those of the low-quality clips. Of each aligned crop of 256 px a descriptor is taken: log
power of luma in ten rings of frequency and of chroma in three, each against the lowest of luma, log of the noise in
the finest diagonal band, log of the chroma. The plot shows the two principal axes of all damaged faces together.
Printed: per kind, how far the median real face is from the nearest one of that kind, in standard deviations over
all axes, and how far the five seeds of a face are from each other in dB.
"""

from __future__ import annotations

import argparse
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from quality import EYES, SIDE, opened, read

from vidrestore.config import resolve
from vidrestore.geometry.template import fit_similarity, template
from vidrestore.geometry.warp import warp
from vidrestore.quality.levels import LEVELS, damaged
from vidrestore.testing import restored_faces
from vidrestore.train.portraits import as_tensor, load_portraits
from vidrestore.train.sheet import sheet, write_png
from vidrestore.types import FaceBatch

RINGS, COARSE, SEEDS, EVERY, LEAST = 10, 3, 5, 12, 24.0  # LEAST: px between the eyes of a real face
PASSES = 8  # as `vidrestore degrade --model flipnet` does it
COLOURS = {"classic": "#4477aa", "flipnet": "#cc3311", "real": "#228833", "undamaged": "#999999"}


def descriptor(face: torch.Tensor) -> NDArray[np.float64]:
    """A crop f32 [3, 256, 256] in 0..1 -> [15]."""
    rgb = face.permute(1, 2, 0).numpy().astype(np.float32)
    ycc = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb), np.float64)[32:-32, 32:-32]
    n = len(ycc)
    window = np.hanning(n)[:, None] * np.hanning(n)
    fy, fx = np.fft.fftfreq(n), np.fft.fftfreq(n)
    radius = np.hypot(fy[:, None], fx)

    def rings(plane: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        power = np.abs(np.fft.fft2((plane - plane.mean()) * window)) ** 2
        edges = np.geomspace(1.5 / n, 0.5, count + 1)
        found = [power[(radius >= a) & (radius < b)].mean() for a, b in pairwise(edges)]
        return np.log10(np.array(found) + 1e-9)

    luma = rings(ycc[..., 0], RINGS)
    chroma = np.mean([rings(ycc[..., c], COARSE) for c in (1, 2)], axis=0)
    fine = (ycc[::2, ::2, 0] - ycc[::2, 1::2, 0] - ycc[1::2, ::2, 0] + ycc[1::2, 1::2, 0]) / 2
    noise, colour = np.median(np.abs(fine)), np.abs(ycc[..., 1:] - 0.5).mean()
    return np.concatenate([luma[1:] - luma[0], chroma - luma[0], np.log10([noise + 1e-4, colour + 1e-3])])


def real_faces(folder: Path) -> list[torch.Tensor]:
    """Of every twelfth of the first frames of each low-quality clip, all faces that are large enough."""
    detector = resolve().step("detect").make()
    detector.open(torch.device("cpu"))
    found = []
    for path in sorted((folder / "faces").glob("low_*")):
        frames = read(path, 5 * EVERY + 1)[::EVERY]
        for frame in frames:
            scale = min(1.0, detector.side / max(frame.shape[:2]))
            size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
            small = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
            points = detector.detect(torch.from_numpy(small)[None])[0].landmarks / scale
            for eyes in points:
                if np.linalg.norm(eyes[1] - eyes[0]) >= LEAST:
                    matrix = fit_similarity(eyes[None], template(SIDE))[0]
                    found.append(warp(as_tensor(frame), matrix, (SIDE, SIDE), "reflection").clamp(0, 1))
    return found


def by_network(faces: torch.Tensor, step: str, seed: int) -> torch.Tensor:
    restorer = opened(f"{step}:mode=degrade:steps={PASSES}")
    if restorer is None:
        raise SystemExit(f"{step}: no weights")
    zero = np.zeros(1, np.int64)
    one = zero, zero, np.zeros(1), torch.ones(1, 32, 32), np.ones(1, np.float32)
    with torch.inference_mode():
        return torch.cat([restored_faces(restorer.plugin, FaceBatch(face[None], *one), seed) for face in faces])


def plot(kinds: dict[str, NDArray[np.float64]], path: Path) -> None:
    """Dots of each kind on the two principal axes, as SVG."""
    points = np.concatenate([kinds[k] for k in kinds if k != "undamaged"])
    low, high = np.percentile(points, 0.5, 0), np.percentile(points, 99.5, 0)
    pad = 0.06 * (high - low)
    low, high = low - pad, high + pad
    width, height = 720, 520
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 40}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height + 40}" fill="white"/>',
    ]
    for i, (kind, dots) in enumerate(kinds.items()):
        where = (dots - low) / (high - low) * (width, height)
        marks = "".join(f'<circle cx="{x:.1f}" cy="{height - y:.1f}" r="3"/>' for x, y in where)
        lines.append(f'<g fill="{COLOURS[kind]}" fill-opacity="0.55">{marks}</g>')
        x = 20 + 170 * i
        lines.append(f'<circle cx="{x}" cy="{height + 22}" r="6" fill="{COLOURS[kind]}"/>')
        lines.append(f'<text x="{x + 12}" y="{height + 27}" font-size="15">{kind}, {len(dots)}</text>')
    path.write_text("\n".join([*lines, "</svg>"]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--weights", default="", help="of FLIPNET; the bundled ones unless given")
    parser.add_argument("--out", type=Path, default=Path("docs/degradations.svg"))
    parser.add_argument("--sheet", type=Path, help="some faces, their damage by five seeds, and real ones")
    parser.add_argument("--faces", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    step = "restore=flipnet" + (f":weights='{arguments.weights}'" if arguments.weights else "")

    images = load_portraits(arguments.data, "val").images[: arguments.faces]
    truth = torch.stack([as_tensor(image) for image in images])
    classic = [
        as_tensor(damaged(x[None], level, f"face{i}", EYES * SIDE / 512)[0])
        for level in LEVELS
        for i, x in enumerate(images)
    ]
    seeds = [by_network(truth, step, seed) for seed in range(SEEDS)]
    real = real_faces(arguments.media)
    every = {
        "undamaged": list(truth),
        "classic": classic,
        "flipnet": [seeds[(i + k) % SEEDS][i] for k in (0, 2) for i in range(len(truth))],
        "real": real,
    }
    found = {kind: np.stack([descriptor(face) for face in faces]) for kind, faces in every.items()}
    damage = np.concatenate([found[kind] for kind in found if kind != "undamaged"])
    mean, spread = damage.mean(0), damage.std(0)
    scaled = {kind: (d - mean) / spread for kind, d in found.items()}
    _, _, axes = np.linalg.svd((damage - mean) / spread, full_matrices=False)
    plot({kind: d @ axes[:2].T for kind, d in scaled.items()}, arguments.out)
    for kind in ("undamaged", "classic", "flipnet"):
        nearest = np.linalg.norm(scaled["real"][:, None] - scaled[kind][None], axis=2).min(1)
        print(f"median distance of a real face to the nearest of {kind}: {np.median(nearest):.2f}")
    apart: list[Any] = [-10 * np.log10(float((a - b).square().mean())) for a, b in combinations(seeds, 2)]
    print(f"five seeds of the same faces, from each other: {min(apart):.1f} to {max(apart):.1f} dB")
    if arguments.sheet:
        picked = range(0, len(truth), max(1, len(truth) // 6))
        rows = [[truth[i], *(s[i] for s in seeds), real[i * len(real) // len(truth)]] for i in picked]
        tiles = [(face * 255).round().byte().permute(1, 2, 0).numpy() for row in rows for face in row]
        write_png(arguments.sheet, sheet(tiles, SEEDS + 2))


if __name__ == "__main__":
    main()
