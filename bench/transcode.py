"""What everything around the restoring costs, against ffmpeg with the same encoder settings.

    python bench/transcode.py [--seconds 60] [--rounds 3] [--preset medium] [--face CLIP]

Cases, interleaved in each round, medians of the rounds, all as ratios to ffmpeg's transcode of the same clip:
``none`` (detect=none), ``faceless`` (detecting in a clip without faces) and ``face`` (one face, restore=none),
at 1280x720. CPU seconds are user + system of the whole process tree, wall is elapsed time. The faceless clip is
a moving pattern with noise; the clip with a face is CLIP, looped to length, else a photograph (scikit-image's
astronaut) that drifts over the pattern. ``--where`` adds the share of each stage from the run record.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

BARS = {"none": 1.05, "faceless": 1.3, "face": 1.6}
RATE = 25


def ffmpeg() -> str:
    found = shutil.which("ffmpeg")
    if found:
        return found
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def pattern(i: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth moving picture with grain: nothing in it looks like a face."""
    y, x = np.mgrid[:720, :1280].astype(np.float32)
    red = 120 + 60 * np.sin((x + 3 * i) / 97) * np.cos(y / 61)
    green = 110 + 50 * np.cos((x - 2 * i) / 83 + y / 140)
    blue = 130 + 40 * np.sin((y + i) / 71)
    picture = np.stack([red, green, blue], -1) + rng.normal(0, 4, (720, 1280, 1))
    return picture.clip(0, 255).astype(np.uint8)


def make(path: Path, seconds: int, with_face: bool) -> None:
    from skimage.data import astronaut

    rng = np.random.default_rng(0)
    cycle = [pattern(i, rng) for i in range(2 * RATE)]
    head = astronaut()[0:300, 60:360]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"crf": "14", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for i in range(seconds * RATE):
            picture = cycle[i % len(cycle)].copy()
            if with_face:
                x, y = int(480 + 200 * np.sin(i / 40)), int(200 + 60 * np.cos(i / 31))
                picture[y : y + 300, x : x + 300] = head
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def loop(path: Path, clip: str, seconds: int) -> None:
    command = [ffmpeg(), "-v", "error", "-stream_loop", "-1", "-i", clip, "-t", str(seconds), "-an"]
    command += ["-vf", "scale=1280:720", "-r", str(RATE), "-c:v", "libx264", "-crf", "14", "-preset", "veryfast"]
    subprocess.run([*command, str(path), "-y"], check=True)


def timed(command: list[str]) -> tuple[float, float]:
    """CPU and wall seconds of a command with all its children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", default="medium")
    parser.add_argument("--face", help="a clip with one face, looped to length and scaled to 720p")
    parser.add_argument("--where", action="store_true", help="where the time goes")
    args = parser.parse_args()
    threads = str(min(16, max(1, (os.cpu_count() or 1) * 3 // 2)))
    encoder = ["-c:v", "libx264", "-crf", "16", "-preset", args.preset]
    with tempfile.TemporaryDirectory() as folder:
        empty, face, out = Path(folder, "empty.mp4"), Path(folder, "face.mp4"), Path(folder, "out.mp4")
        make(empty, args.seconds, with_face=False)
        if args.face:
            loop(face, args.face, args.seconds)
        else:
            make(face, args.seconds, with_face=True)
        ours = [sys.executable, "-m", "vidrestore"]
        cases = {
            "none": (empty, "detect=none"),
            "faceless": (empty, "restore=none"),
            "face": (face, "restore=none"),
        }
        runs: dict[str, list[tuple[float, float]]] = {}
        where = {}
        for _ in range(args.rounds):
            for clip in (empty, face):
                theirs = [ffmpeg(), "-v", "error", "-y", "-i", str(clip), *encoder, "-threads", threads, str(out)]
                runs.setdefault(f"ffmpeg {clip.stem}", []).append(timed(theirs))
            for name, (clip, chain) in cases.items():
                command = [*ours, str(clip), "-o", str(out), "-y", "-vf", chain, *encoder]
                runs.setdefault(name, []).append(timed(command))
                where[name] = json.loads(Path(str(out) + ".json").read_text())["seconds"]
    median = {name: [statistics.median(column) for column in zip(*r, strict=True)] for name, r in runs.items()}
    print(f"{args.seconds} s of 1280x720, libx264 {args.preset} crf 16, medians of {args.rounds} interleaved rounds")
    for name, (cpu, wall) in median.items():
        print(f"  {name:14} {cpu:8.2f} s CPU {wall:8.2f} s wall")
    for name, (clip, _) in cases.items():
        base = median[f"ffmpeg {clip.stem}"]
        cpu, wall = (a / b for a, b in zip(median[name], base, strict=True))
        print(f"  {name:10} CPU x{cpu:.3f}  wall x{wall:.3f}   bar x{BARS[name]}")
        if args.where:
            print("     " + "  ".join(f"{stage} {s['cpu']:.1f}" for stage, s in where[name].items()) + "  (CPU s)")


if __name__ == "__main__":
    main()
