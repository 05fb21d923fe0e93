"""An hour of one run: memory, threads and descriptors, sampled once a second, and whether they grow.

    python bench/soak.py CLIP [--minutes 60] [--chain CHAIN] [--log soak.csv] [--plot docs/soak.svg]
    python bench/soak.py --replay soak.csv --plot docs/soak.svg

CLIP, best one with faces and cuts, is coded as H.264 with sound and repeated by stream copy for longer than the run
takes; one vidrestore works on it until the time is up and is then asked to stop. Two sizes are taken: what is resident,
and the least that glibc's allocator has given out in that second (of twenty looks). Both swing with what is in the
picture by far more than they could leak, so whole rounds of the clip are compared, the resident size by its mean and
what is given out by its least; growth is the slope of a straight line through these after the first ten minutes, with
its standard error. Pass: both grow by less than 1 MB an hour, descriptors and threads are no more at the end than after
ten minutes, exit code 143, no file but the log left.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from threading import Thread
from typing import IO, Any

import numpy as np
from memory import Samples, sample
from transcode import ffmpeg

SETTLED = 600.0  # seconds that do not count
BAR = 1.0  # MB an hour


@dataclass(frozen=True)
class Row:
    seconds: float
    frames: int  # written so far
    memory: int  # kB, resident, of all processes
    in_use: int  # kB, the least that the allocator had given out since the row before; 0: not told
    descriptors: int
    threads: int


def make(clip: Path, folder: Path, frames: int) -> tuple[Path, int]:
    """The clip over and over for at least so many frames, and the frames of one round."""
    once, film = folder / "once.mkv", folder / "film.mkv"
    run = [ffmpeg(), "-v", "error", "-nostdin"]
    tone = ["-f", "lavfi", "-i", "sine=frequency=330:sample_rate=48000"]
    coded = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-c:a", "aac", "-shortest"]
    picture = ["-map", "0:v:0", "-map", "1:a", "-fps_mode", "cfr"]
    subprocess.run([*run, "-i", str(clip), *tone, *picture, *coded, str(once)], check=True)
    import av

    with av.open(str(once)) as film_once:
        a_round = sum(1 for packet in film_once.demux(video=0) if packet.size)
    rounds = ["-stream_loop", str(frames // a_round)]
    subprocess.run([*run, *rounds, "-i", str(once), "-map", "0", "-c", "copy", str(film)], check=True)
    return film, a_round


_NAMES = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class Heap(ctypes.Structure):
    """mallinfo2(3), of all arenas."""

    _fields_ = [(name, ctypes.c_size_t) for name in _NAMES]


def inside(arguments: list[str]) -> None:
    """vidrestore, telling once a second what its allocator has given out."""
    asked = ctypes.CDLL(None).mallinfo2
    asked.restype = Heap

    def tell() -> None:
        while True:
            looks = []
            for _ in range(20):
                heap = asked()
                looks.append((heap.uordblks + heap.hblkhd) // 1024)
                time.sleep(0.05)
            os.write(2, f'\n{{"in_use": {min(looks)}}}\n'.encode())  # the other thread may not have ended its line

    Thread(target=tell, daemon=True).start()
    from vidrestore.cli import main

    main(arguments)


class Told:
    """What the run says of itself on standard error."""

    def __init__(self, stream: IO[str]) -> None:
        self.frames, self.in_use, self.last = 0, 0, ""
        self._stream = stream
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            if line.startswith("{"):
                told = json.loads(line)
                self.frames = told.get("frames", self.frames)
                self.in_use = told.get("in_use", self.in_use)
            elif line.strip():
                self.last = line.strip()


def watch(film: Path, folder: Path, chain: str | None, seconds: float, log: Path) -> int:
    """Run until the time is up, a row a second into the log; the exit code."""
    out = ["-o", str(folder / "out.mkv"), "--progress", "json", "-preset", "ultrafast"]
    command = [sys.executable, __file__, "--inside", str(film), *out, *(["-vf", chain] if chain else [])]
    begun = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    told = Told(process.stderr)
    with log.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(field.name for field in fields(Row))
        while process.poll() is None and time.monotonic() - begun < seconds:
            taken = Samples()
            sample(process.pid, taken)
            now = round(time.monotonic() - begun, 1)
            numbers = (taken.memory[0], told.in_use, taken.descriptors[0], taken.threads[0])
            table.writerow(astuple(Row(now, told.frames, *numbers)))
            file.flush()
            time.sleep(1)
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=60)
    print(told.last)
    return code


def read(log: Path) -> tuple[int, list[Row]]:
    """Frames of a round, and the samples."""
    with log.open(encoding="utf-8") as file:
        rows = [Row(float(r["seconds"]), *(int(r[f.name]) for f in fields(Row)[1:])) for r in csv.DictReader(file)]
    return json.loads(log.with_suffix(".json").read_text())["frames_a_round"], rows


def rounds(rows: list[Row], a_round: int) -> tuple[Any, Any, Any]:
    """Hours, mean resident size and least size in use (MB) of each whole round."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.frames // a_round, []).append(row)
    whole = [group for _, group in sorted(groups.items())][:-1]
    hours = [np.mean([r.seconds for r in group]) / 3600 for group in whole]
    memory = [np.mean([r.memory for r in group]) / 1024 for group in whole]
    in_use = [min(r.in_use for r in group) / 1024 for group in whole]
    return np.array(hours), np.array(memory), np.array(in_use)


def slope(x: Any, y: Any) -> tuple[float, float]:
    """Of the least squares' line, and its standard error."""
    (k, _), covariance = np.polyfit(x, y, 1, cov=True)
    return float(k), float(np.sqrt(covariance[0, 0]))


def plot(rows: list[Row], a_round: int, growth: str) -> str:
    """An SVG: memory, its means over rounds, threads and descriptors over minutes."""
    wide, high, left = 900, 150, 60
    last = rows[-1].seconds
    hours, means, least = rounds(rows, a_round)
    some = rows[:: max(1, len(rows) // 900)]
    of_rounds = [list(zip(hours * 3600, sizes, strict=True)) for sizes in (means, least)]
    series = {
        "memory, MB": [[(r.seconds, r.memory / 1024) for r in some], *of_rounds],
        "threads": [[(r.seconds, r.threads) for r in some]],
        "descriptors": [[(r.seconds, r.descriptors) for r in some]],
    }
    parts = []
    for i, (name, lines) in enumerate(series.items()):
        top, most = 30 + i * (high + 40), max(y for line in lines for _, y in line) * 1.1
        base = top + high
        parts.append(f'<text x="{left}" y="{top - 8}">{name}{growth if i == 0 else ""}</text>')
        parts.append(f'<path class="axis" d="M{left} {top}V{base}H{left + wide}"/>')
        parts += [
            f'<text class="n" x="{left - 6}" y="{base - high * s / 1.1:.0f}">{most * s / 1.1:.0f}</text>'
            for s in (0, 1)
        ]
        for k, line in enumerate(lines):
            points = " ".join(f"{left + wide * x / last:.1f},{base - high * y / most:.1f}" for x, y in line)
            parts.append(f'<polyline class="{("raw", "mean", "least")[k]}" points="{points}"/>')
    base = 30 + 3 * (high + 40) - 22
    for minute in range(0, int(last / 60) + 1, 10):
        parts.append(f'<text class="m" x="{left + wide * minute * 60 / last:.0f}" y="{base}">{minute} min</text>')
    style = (
        "text{font:13px sans-serif;fill:#333}.n{text-anchor:end}.m{text-anchor:middle}"
        ".axis{fill:none;stroke:#999}.raw{fill:none;stroke:#7aa6c2}.mean{fill:none;stroke:#b33;stroke-width:2}.least{fill:none;stroke:#383;stroke-width:2}"
    )
    size = f'viewBox="0 0 {left + wide + 30} {base + 14}" width="{left + wide + 30}"'
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def judge(rows: list[Row], a_round: int) -> tuple[bool, str]:
    """Whether nothing grows, and the growth in words."""
    settled = [r for r in rows if r.seconds >= SETTLED]
    hours, means, least = rounds(settled, a_round)
    first, last = settled[: len(settled) // 4], settled[-len(settled) // 4 :]
    for name in ("descriptors", "threads"):
        before, after = (max(getattr(r, name) for r in part) for part in (first, last))
        print(f"{name:12} at most {before} in the first quarter, {after} in the last")
    still = all(
        max(getattr(r, n) for r in last) <= max(getattr(r, n) for r in first) for n in ("descriptors", "threads")
    )
    print(f"rounds       {len(means)} of {a_round} frames")
    words, flat = [], still
    for name, sizes in (("resident", means), ("in use", least)):
        growth, error = slope(hours[1:], sizes[1:])
        words.append(f"{name} {growth:+.2f} MB an hour (standard error {error:.2f})")
        flat &= growth < BAR
        print(f"{name:12} {sizes.min():.1f}..{sizes.max():.1f} MB; {words[-1]}")
    return flat, ", ".join(words)


def main() -> int:
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--chain", help="instead of the default one")
    parser.add_argument("--frames", type=int, default=250_000, help="of the film: more than a run can do in the time")
    parser.add_argument("--log", type=Path, default=Path("soak.csv"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--replay", type=Path, help="a log to judge again, instead of a run")
    args = parser.parse_args()
    ended = True
    log = args.replay or args.log
    if args.replay is None:
        with tempfile.TemporaryDirectory() as folder:
            film, a_round = make(args.clip, Path(folder), args.frames)
            log.with_suffix(".json").write_text(json.dumps({"frames_a_round": a_round}) + "\n", encoding="utf-8")
            code = watch(film, Path(folder), args.chain, 60 * args.minutes, log)
            left = sorted(p.name for p in Path(folder).iterdir() if p.name not in ("once.mkv", "film.mkv"))
            print(f"exit code {code}, left behind: {', '.join(left) or 'nothing'}")
            ended = code == 143 and left in ([], ["out.mkv.json"])
    a_round, rows = read(log)
    flat, words = judge(rows, a_round)
    if args.plot:
        args.plot.write_text(plot(rows, a_round, f": {words} after ten minutes"), encoding="utf-8")
    return 0 if flat and ended else 1


if __name__ == "__main__":
    sys.exit(main())
