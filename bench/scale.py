"""What a batch costs beside its films: the store, the segments, a second worker.

    python bench/scale.py --jobs 10000
    python bench/scale.py --jobs 10000 --film old.mp4 --rounds 3

Without a film: jobs that do nothing go through the store, one process. With one: the film four times over, in a
plain run each, in a batch of one segment a film, of many, and with two workers, interleaved; prints medians and
ratios to the plain runs.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vidrestore.batch.owner import this_process
from vidrestore.batch.store import Segment, Store

COPIES = 4
PROGRAM = [sys.executable, "-m", "vidrestore"]


def driver(jobs: int, folder: Path) -> None:
    """Seconds for queueing, and for leasing and ending every task of, jobs with one segment each."""
    me = this_process().text()
    with Store(folder) as store:
        begun = time.perf_counter()
        for i in range(jobs):
            store.add(str(i), Path(f"/films/{i}.mp4"), Path(f"{i}.restored.mp4"), "{}")
        queued = time.perf_counter()
        while (task := store.claim(me)) is not None:
            if task.kind == "scan":
                store.planned(task, me, [Segment(0, 240, False)], "{}")
            elif task.kind == "restore":
                store.restored(task, me, "{}")
            else:
                store.published(task, me, "{}", 0, "")
        done = time.perf_counter()
        again = time.perf_counter()
        for i in range(jobs):
            store.add(str(i), Path(f"/films/{i}.mp4"), Path(f"{i}.restored.mp4"), "{}")
        known = time.perf_counter()
    print(f"{jobs} jobs: queued in {queued - begun:.1f} s, {3 * jobs} tasks leased and ended in {done - queued:.1f} s "
          f"({(done - queued) / jobs * 1e3:.2f} ms a film), found known in {known - again:.1f} s")  # fmt: skip


def films(film: Path, chain: str, rounds: int, folder: Path) -> None:
    """Wall seconds of the same work, one way and the others."""
    source = folder / "films"
    source.mkdir()
    copies = [source / f"{i}{film.suffix}" for i in range(COPIES)]
    for copy in copies:
        shutil.copyfile(film, copy)
    spent: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, options in (
            ("plain", None),
            ("batch, one segment a film", ["--segment", "1000000"]),
            ("batch, segments of 64", ["--segment", "64"]),
            ("batch, two workers", ["--segment", "64", "--workers", "2"]),
        ):
            out = folder / "out"
            begun = time.perf_counter()
            if options is None:
                out.mkdir()
                for copy in copies:
                    subprocess.run([*PROGRAM, str(copy), "-o", str(out / copy.name), "-vf", chain], check=True)
            else:
                command = [*PROGRAM, "batch", "run", str(source), "-o", str(out), "-vf", chain, *options]
                subprocess.run(command, check=True, capture_output=True)
            spent.setdefault(name, []).append(time.perf_counter() - begun)
            shutil.rmtree(out)
    first = statistics.median(spent["plain"])
    for name, seconds in spent.items():
        median = statistics.median(seconds)
        print(f"{name:28} {median:7.1f} s  {median / first:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10000)
    parser.add_argument("--film", type=Path)
    parser.add_argument("--chain", default="detect=none")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        driver(arguments.jobs, Path(folder) / "store")
        if arguments.film:
            films(arguments.film, arguments.chain, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
