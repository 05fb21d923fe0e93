"""What pipes cost, and another program's coders, against files and libav's own.

    python bench/pipes.py [--seconds 20] [--rounds 3]

``ffmpeg -c copy | vidrestore | ffmpeg -c copy`` against the same run on files, both to FFV1 in Matroska, 1280x720,
``detect=none``; and ``encode=ffmpeg``, ``decode=ffmpeg`` against the run on files. Interleaved, medians of the rounds,
as ratios; CPU seconds are those of all processes.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import tempfile
from pathlib import Path

from transcode import ffmpeg, make, timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip, out = Path(folder, "clip.mp4"), Path(folder, "out.mkv")
        make(clip, args.seconds, with_face=False)
        ours, program = shlex.join([sys.executable, "-m", "vidrestore"]), shlex.quote(ffmpeg())
        chain = "detect=none,restore=none"
        on_files = f"{ours} {clip} -o {out} -y -c:v ffv1 -vf"
        read = f"{program} -v error -i {clip} -map 0 -c copy -f matroska -"
        write = f"{program} -v error -y -i - -map 0 -c copy {out}"
        cases = {
            "files": f"{on_files} {chain}",
            "pipes": f"{read} | {ours} - -o - -vf {chain} | {write}",
            "encode=ffmpeg": f"{on_files} {chain},encode=ffmpeg",
            "decode=ffmpeg": f"{on_files} decode=ffmpeg,{chain}",
        }
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
        for _ in range(args.rounds):
            for name, command in cases.items():
                runs[name].append(timed(["bash", "-o", "pipefail", "-c", command]))
    median = {name: [statistics.median(column) for column in zip(*r, strict=True)] for name, r in runs.items()}
    print(f"{args.seconds} s of 1280x720 to FFV1, medians of {args.rounds} interleaved rounds")
    for name, (cpu, wall) in median.items():
        shares = (value / base for value, base in zip((cpu, wall), median["files"], strict=True))
        print(f"  {name:14} {cpu:8.2f} s CPU {wall:8.2f} s wall   CPU x{next(shares):.3f}  wall x{next(shares):.3f}")


if __name__ == "__main__":
    main()
