"""What the gate measures of good restorations, and how surely the embedder behind it tells people apart.

    python bench/gate.py --media DIR [--levels medium heavy] [--chain restore=ldbfr] [--embedder FILE]

For each clean clip and level: least, median and largest of identity, flicker and detail of the restored faces, how
many the gate would hold back (of good ones it should be none), and the gate's CPU time a face. Then, over all clips,
cosines between moments of a clean clip and others of the damaged one, of the same person and of others, as the bundled
embedder has them and, with --embedder, as MobileFaceNet does.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from quality import CLIPS, clean_clip, write

from vidrestore.config import resolve
from vidrestore.engine.clock import Clock
from vidrestore.engine.pipeline import restored
from vidrestore.engine.record import Record
from vidrestore.engine.staging import stages_of
from vidrestore.media.reader import PyAVDecoder
from vidrestore.notes import Notes
from vidrestore.quality.levels import damaged
from vidrestore.train.embedder import load_embedder, on_template
from vidrestore_plugins.embed.compact.plugin import CompactEmbedder, CompactOptions

MOMENTS = 6  # of each clip
Embed = Callable[[torch.Tensor], torch.Tensor]


def judged(path: Path, chain: str) -> tuple[NDArray[np.float64], float]:
    """Identity, flicker, detail and share of every face of a film [n, 4]; seconds of CPU a face."""
    config = resolve(chain=chain, flags_of={"gate": {"mode": "warn"}}, settings={"device": "cpu", "threads": 1})
    record, notes, clock = Record(str(path), "", config), Notes(), Clock()
    found = []
    with PyAVDecoder(PyAVDecoder.Options(threads=1)).open(str(path), notes) as film:
        last = None
        for _, window in restored(film.frames(), stages_of(config, record), notes, clock):
            if window is not last:
                found += [np.stack([j.identity, j.flicker, j.detail, j.shares], 1) for j in window.judged]
            last = window
    table = np.concatenate(found).astype(np.float64)
    return table, clock.seconds()["gate"]["cpu"] / len(table)


def told(values: NDArray[np.float64]) -> str:
    return "{:.2f} {:.2f} {:.2f}".format(*np.nanquantile(values, (0, 0.5, 1)))


def apart(embed: Embed, clean: list[torch.Tensor], bad: list[torch.Tensor]) -> str:
    """Of moments [m, 3, s, s] of each clip, clean and damaged: cosines of the same person and of others."""
    one, two = [embed(x) for x in clean], [embed(x) for x in bad]
    moved = ~torch.eye(MOMENTS, dtype=torch.bool)
    same = torch.cat([(a @ b.T)[moved] for a, b in zip(one, two, strict=True)])
    other = torch.cat([(a @ b.T).flatten() for i, a in enumerate(one) for k, b in enumerate(two) if i != k])
    area = float((same[:, None] > other[None]).float().mean())
    low = float(same.quantile(0.05))
    return f"same {same.mean():.2f} (5 % {low:.2f})  other {other.mean():.2f} (most {other.max():.2f})  AUC {area:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, required=True, help="folder of the clean clips")
    parser.add_argument("--clips", nargs="*", default=CLIPS)
    parser.add_argument("--levels", nargs="*", default=["medium"])
    parser.add_argument("--chain", default="restore=ldbfr")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--embedder", type=Path, help="MobileFaceNet's safetensors")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ours = CompactEmbedder(CompactOptions())
    ours.open(torch.device("cpu"))
    embedders: dict[str, Embed] = {"embed=compact": ours.embed}
    if arguments.embedder:
        teacher = load_embedder(arguments.embedder)
        embedders["MobileFaceNet"] = lambda faces: teacher(on_template(faces))[0]
    films = [clean_clip(arguments.media / name, arguments.frames) for name in arguments.clips]
    at = [np.linspace(0, len(film.frames) - 1, MOMENTS).astype(int) for film in films]
    clean = [film.aligned(film.frames)[rows] for film, rows in zip(films, at, strict=True)]
    for level in arguments.levels:
        bad = []
        for film, rows in zip(films, at, strict=True):
            frames = damaged(film.frames, level, film.name, film.eyes)
            bad.append(film.aligned(frames)[rows])
            with tempfile.TemporaryDirectory() as folder:
                write(frames, Path(folder) / "film.mkv")
                table, cost = judged(Path(folder) / "film.mkv", arguments.chain)
            identity, flicker, detail = (told(column) for column in table.T[:3])
            held = int((table[:, 3] < 1).sum())
            print(
                f"{level:7s} {film.name:28s} identity {identity}  flicker {flicker}  detail {detail}"
                f"  held back {held} of {len(table)}  {1000 * cost:.1f} ms a face",
                flush=True,
            )
        with torch.inference_mode():
            for name, embed in embedders.items():
                print(f"{level:7s} {name:28s} {apart(embed, clean, bad)}", flush=True)


if __name__ == "__main__":
    main()
