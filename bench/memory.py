"""Memory, descriptors and threads do not grow with the film: python bench/memory.py [--face CLIP --rate 3]

Restores one minute and ten minutes of the same 1920x1080 film (the ten are the one, repeated by stream copy) with the
ultrafast encoder and samples the process tree twice a second from /proc. Pass: peak memory, summed over all processes,
within 5 % or 40 MB of the short film's; descriptors and threads equal.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from transcode import ffmpeg


@dataclass
class Samples:
    memory: list[int] = field(default_factory=list)  # kB, all processes
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)


def tree(pid: int) -> list[int]:
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            waiting += [int(p) for p in children.read_text().split()]
    return found


def sample(pid: int, into: Samples) -> None:
    memory = descriptors = threads = 0
    for one in tree(pid):
        status = dict(line.split(":", 1) for line in Path(f"/proc/{one}/status").read_text().splitlines())
        memory += int(status.get("VmRSS", "0 kB").split()[0])
        threads += int(status["Threads"])
        descriptors += sum(1 for _ in Path(f"/proc/{one}/fd").iterdir())
    into.memory.append(memory)
    into.descriptors.append(descriptors)
    into.threads.append(threads)


def watched(command: list[str]) -> Samples:
    samples = Samples()
    process = subprocess.Popen(command)
    while process.poll() is None:
        try:
            sample(process.pid, samples)
        except (FileNotFoundError, ProcessLookupError):
            break
        time.sleep(0.5)
    if process.wait():
        raise SystemExit(f"failed: {command}")
    return samples


def make(folder: Path, face: str | None, rate: int) -> tuple[Path, Path]:
    short, long, names = folder / "1min.mp4", folder / "10min.mp4", folder / "list.txt"
    source = ["-stream_loop", "-1", "-i", face] if face else ["-f", "lavfi", "-i", f"testsrc2=s=1920x1080:r={rate}"]
    scale = ["-vf", f"scale=1920:1080:force_original_aspect_ratio=decrease,pad=1920:1080:-1:-1,fps={rate}"]
    coded = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "26", "-pix_fmt", "yuv420p"]
    subprocess.run([ffmpeg(), "-v", "error", *source, "-t", "60", *scale, *coded, "-an", str(short)], check=True)
    names.write_text("".join(f"file '{short}'\n" for _ in range(10)))
    joined = ["-f", "concat", "-safe", "0", "-i", str(names), "-c", "copy", str(long)]
    subprocess.run([ffmpeg(), "-v", "error", *joined], check=True)
    return short, long


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--face", help="a clip with faces to loop instead of a test pattern")
    parser.add_argument("--chain", default="restore=classic")
    parser.add_argument("--rate", type=int, default=25, help="frames a second of the films; fewer end sooner")
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for film in make(Path(folder), args.face, args.rate):
            out = ["-o", str(film.with_suffix(".out.mp4")), "-vf", args.chain, "-preset", "ultrafast"]
            found[film.stem] = watched([sys.executable, "-m", "vidrestore", str(film), *out])
    for name, s in found.items():
        mb = [kb >> 10 for kb in s.memory]
        later = mb[len(mb) // 2 :]
        print(
            f"{name:6} peak {max(mb)} MB, later half {min(later)}..{max(later)} MB, "
            f"descriptors {max(s.descriptors)}, threads {max(s.threads)}"
        )
    short, long = found["1min"], found["10min"]
    more = (max(long.memory) - max(short.memory)) >> 10
    flat = more <= max(40, 0.05 * (max(short.memory) >> 10)) and max(long.descriptors) <= max(short.descriptors)
    print(f"difference {more:+d} MB: {'flat' if flat and max(long.threads) <= max(short.threads) else 'GROWS'}")


if __name__ == "__main__":
    main()
