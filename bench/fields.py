"""Interlaced film: faces restored field by field against woven frames, and against film that was never interlaced.

    python bench/fields.py --media DIR [--frames 32] [--flat]

Clean clips are damaged (`vidrestore degrade`, medium), two frames of truth and of damage each are woven into one, coded
by x264 as fields, and restored by the default chain. PSNR to the woven truth, where the face was changed. With --flat
nothing is woven: films whose frames show one time, but are flagged as if they did not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
from transcode import ffmpeg

CLIPS = ("clean_bigmotion_512.mp4", "clean_talk_mpeg4_512.mp4", "clean_turn_720p.mp4")
WEAVE = ("-vf", "tinterlace=interleave_top")
FIELDS = ["-c:v", "libx264", "-flags", "+ildct+ilme", "-x264opts", "tff=1", "-crf", "16", "-pix_fmt", "yuv420p"]
FFV1 = ["-c:v", "ffv1"]


def vidrestore(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "vidrestore", *map(str, arguments), "--progress", "none"], check=True)


def make(source: Path, target: Path, *options: str) -> Path:
    command = [ffmpeg(), "-v", "error", "-nostdin", "-i", source, *options, target]
    subprocess.run(list(map(str, command)), check=True)
    return target


def luma_and_chroma(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="yuv420p").astype(int) for frame in film.decode(video=0)]


def compared(clip: Path, folder: Path, frames: int, weave: tuple[str, ...]) -> dict[str, float]:
    """PSNR, dB, of each way."""
    taken = str(2 * frames if weave else frames)
    clean = make(clip, folder / "clean.mkv", "-frames:v", taken, "-vf", "scale=512:-4", *FFV1)
    damaged = folder / "damaged.mkv"
    vidrestore("degrade", clean, "-o", damaged, "--model", "classic", "--preset", "medium", "--seed", 3)
    films = {"damaged": make(damaged, folder / "tape.mkv", *weave, *FIELDS)}
    for how in ("woven", "fields"):
        films[how] = folder / f"{how}.mkv"
        vidrestore(films["damaged"], "-o", films[how], *FFV1, "--interlace", how)
    vidrestore(damaged, "-o", folder / "all.mkv", *FFV1)
    films["never interlaced"] = make(folder / "all.mkv", folder / "never.mkv", *weave, *FFV1)
    truth = luma_and_chroma(make(clean, folder / "truth.mkv", *weave, *FFV1))
    pictures = {how: luma_and_chroma(path) for how, path in films.items()}
    faces = [abs(a - b) > 1 for a, b in zip(pictures["fields"], pictures["damaged"], strict=True)]
    found = {}
    for how, shown in pictures.items():
        errors = [np.square(p - t)[face] for p, t, face in zip(shown, truth, faces, strict=True)]
        found[how] = float(10 * np.log10(255**2 / np.concatenate(errors).mean()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, required=True, help="the folder that holds faces/")
    parser.add_argument("--frames", type=int, default=32, help="interlaced ones, of each clip")
    parser.add_argument("--flat", action="store_true", help="do not weave")
    args = parser.parse_args()
    for name in CLIPS:
        with tempfile.TemporaryDirectory() as folder:
            found = compared(args.media / "faces" / name, Path(folder), args.frames, () if args.flat else WEAVE)
        print(f"{Path(name).stem:24}", "  ".join(f"{how} {value:.2f}" for how, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
