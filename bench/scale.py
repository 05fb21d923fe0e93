"""What a batch costs beside its films: the store, the segments, a second worker.

    python bench/scale.py --jobs 10000
    python bench/scale.py --jobs 10000 --film old.mp4 --rounds 3

Jobs that do nothing go through the store, one process (--jobs 0: none). Then the film, if there is one, four times
over: in a plain run each, in a batch of one segment a film, of many, and with two workers, interleaved; prints medians
of wall and of CPU seconds, and their ratios to the plain runs.
"""

from __future__ import annotations

import argparse
import resource
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
        begun, started = time.perf_counter(), time.process_time()
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
        done, spent = time.perf_counter(), time.process_time()
        for i in range(jobs):
            store.add(str(i), Path(f"/films/{i}.mp4"), Path(f"{i}.restored.mp4"), "{}")
        known = time.perf_counter()
    told = f"{jobs} jobs: queued in {queued - begun:.1f} s, {3 * jobs} tasks leased and ended in {done - queued:.1f} s"
    print(
        f"{told}, found known in {known - done:.1f} s; CPU of queueing and ending {spent - started:.1f} s", flush=True
    )


def films(film: Path, chain: str, rounds: int, folder: Path) -> None:
    """Wall seconds of the same work, one way and the others."""
    source = folder / "films"
    source.mkdir()
    copies = [source / f"{i}{film.suffix}" for i in range(COPIES)]
    for copy in copies:
        shutil.copyfile(film, copy)
    spent: dict[str, list[tuple[float, float]]] = {}  # wall and CPU seconds
    for _ in range(rounds):
        for name, options in (
            ("plain", None),
            ("batch, one segment a film", ["--segment", "1000000"]),
            ("batch, segments of 64", ["--segment", "64"]),
            ("batch, two workers", ["--segment", "64", "--workers", "2"]),
        ):
            out = folder / "out"
            begun, before = time.perf_counter(), _cpu_of_children()
            if options is None:
                out.mkdir()
                for copy in copies:
                    subprocess.run([*PROGRAM, str(copy), "-o", str(out / copy.name), "-vf", chain], check=True)
            else:
                command = [*PROGRAM, "batch", "run", str(source), "-o", str(out), "-vf", chain, *options]
                subprocess.run(command, check=True, capture_output=True)
            spent.setdefault(name, []).append((time.perf_counter() - begun, _cpu_of_children() - before))
            shutil.rmtree(out)
    medians = {name: [statistics.median(kind) for kind in zip(*both, strict=True)] for name, both in spent.items()}
    for name, (wall, cpu) in medians.items():
        first = medians["plain"]
        print(f"{name:28} wall {wall:7.1f} s {wall / first[0]:5.2f}   CPU {cpu:7.1f} s {cpu / first[1]:5.2f}")


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10000)
    parser.add_argument("--film", type=Path)
    parser.add_argument("--chain", default="detect=none")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.jobs:
            driver(arguments.jobs, Path(folder) / "store")
        if arguments.film:
            films(arguments.film, arguments.chain, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
