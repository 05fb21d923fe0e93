"""Broken films, chains, manifests, presets and weights by the thousand: one line each, no traceback, no hang, bounded
memory.

    python tests/fuzz/fuzz.py --media DIR --count 10000 [--seed 0] [--kinds media chain ...] [--keep DIR]

Case n of a seed is always the same. Each runs the command line in a child process, which works through many; the
parent restarts it when it hangs or dies. A case fails if the exit code is none of the documented ones or that of a
fault of vidrestore itself, if more than warnings and one error line are printed, if it takes over a minute of the
processor or stands still for ten of the clock, or if the child's memory grows by over 2 GB beyond what an ordinary run
with its networks takes. Failing cases are listed, and their inputs kept in --keep.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

KINDS = ("media", "chain", "manifest", "preset", "weights")
ALLOWED = {0, 2, 3, 4, 5, 6, 7}
SECONDS, MEMORY = 60.0, 2 << 30
_READY = _STILL = 600.0  # seconds of the clock: to load everything and run once, and for a case on a busy machine
_LARGEST = 400_000  # bytes of a film: larger ones are cut to it
_CASES_A_CHILD = 200

CHAINS = (
    "restore=ldbfr",
    "detect=retinaface:every=2,track=bytetrack,restore=ldbfr:seed=7:mode=fast,smooth=one_euro,blend=feather",
    "detect=retinaface:0.6:every=2",
    "av.bwdif=mode=send_field:parity=tff,restore=ldbfr",
    "restore=ldbfr,av.scale=1280:-2:flags=lanczos",
    "av.unsharp=5:5:0.5:enable='between(t,0,3)',restore=ldbfr",
    r"restore=ldbfr:weights='C:\models\a:b.safetensors'",
    "restore@main=ldbfr:seed=7,blend@b=feather:16",
    "align=ffhq:faces=0+3:region=1+2+3+4,gate=quality:warn",
    "detect=none,restore=none,blend=none",
)
MANIFESTS = {
    "csv": "source,output,chain,-crf,strict,window\n"
    "small.mkv,a/b.mkv,detect=none,18,true,8\n"
    'same.mkv,,"detect=none,restore=none",,,\n',
    "jsonl": '{"source": "small.mkv", "output": "a/b.mkv", "window": 8, "-c:v": "ffv1"}\n'
    '{"source": "same.mkv", "chain": "detect=none,blend=none", "strict": true}\n',
}
_PIECES = (
    *",:='\\[];@.|+ \n\x00é", "-1", "1e999", "nan", "av.", "av.scale=", "restore=", "seed=", "9" * 40, "../..", "%s",
    "{}", "$(id)", "true", "auto",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What one child run is given."""

    kind: str
    arguments: list[str]


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Bytes with flips, a cut, a splice, noise or a repeat; often several."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not out:
            return bytes(other[: rng.randrange(1, 400)])
        way = rng.randrange(6)
        at, size = rng.randrange(len(out)), rng.choice((1, 4, 64, 1024, len(out)))
        if way == 0:
            for _ in range(rng.choice((1, 8, 64, 512))):
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        elif way == 1:
            del out[at:]
        elif way == 2:
            del out[at : at + size]
        elif way == 3:
            begin = rng.randrange(max(1, len(other)))
            out[at : at + size] = other[begin : begin + size]
        elif way == 4:
            out[at : at + min(size, 4096)] = rng.randbytes(min(size, 4096))
        else:
            out[at:at] = out[at : at + size]
    return bytes(out[: 2 * _LARGEST])


def scribbled(text: str, rng: random.Random) -> str:
    """Text with pieces put in, taken out, repeated or put elsewhere."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(text) + 1)
        way = rng.randrange(4)
        if way == 0:
            text = text[:at] + rng.choice(_PIECES) + text[at:]
        elif way == 1:
            text = text[:at] + text[at + rng.randrange(1, 6) :]
        elif way == 2:
            text = text[:at] + text[at : at + 12] * rng.randrange(2, 4) + text[at + 12 :]
        else:
            text = text[:at] + chr(rng.randrange(1, 0x250)) + text[at + 1 :]
    return text


def made(number: int, seed: int, kinds: list[str], films: list[Path], small: Path, folder: Path) -> Case:
    """Case ``number``; its files are written to the folder."""
    rng = random.Random(f"{seed}:{number}")
    kind = rng.choice(kinds)
    out = ["-o", str(folder / "out.mkv"), "-y", "--progress", "none"]
    if kind == "media":
        one, other = (rng.choice(films).read_bytes()[:_LARGEST] for _ in range(2))
        film = folder / f"film{rng.choice(('.mp4', '.mkv', '.avi', '.ts', '.bin'))}"
        film.write_bytes(mutated(one, other, rng))
        steps = rng.choice(("detect=none,restore=none", "detect=none,restore=none", "restore=classic"))
        more = rng.choice(([], [], ["--strict"], ["--keep-going"], ["-ss", "0.3"]))
        return Case(kind, [str(film), *out, "-vf", steps, "-c:v", "ffv1", "-to", "2", *more])
    if kind == "chain":
        chain = scribbled(rng.choice(CHAINS), rng)
        if rng.random() < 0.5:
            return Case(kind, ["config", "show", "-vf", chain])
        return Case(kind, [str(small), *out, "-vf", chain])
    if kind == "manifest":
        form, text = rng.choice(sorted(MANIFESTS.items()))
        manifest = folder / f"films.{form}"
        manifest.write_text(scribbled(text, rng), encoding="utf-8", errors="surrogateescape")
        shutil.copyfile(small, folder / "same.mkv")
        return Case(kind, ["batch", "run", str(manifest), "-o", str(folder / "tree"), "--dry-run"])
    if kind == "preset":
        import vidrestore.config

        preset = folder / "mine.toml"
        text = (vidrestore.config._configs() / "default.toml").read_text(encoding="utf-8")
        preset.write_text(scribbled(text, rng), encoding="utf-8", errors="surrogateescape")
        return Case(kind, ["config", "show", rng.choice(("-p", "--config")), str(preset)])
    from vidrestore.weights.store import weights_path

    name, step = rng.choice((("ldbfr_tiny", "restore=ldbfr:weights="), ("assess_head", "restore=spandrel:weights=")))
    data = weights_path(name).read_bytes()
    head = 8 + int.from_bytes(data[:8], "little")  # mutations of the tensors alone are other weights, not broken ones
    weights = folder / "w.safetensors"
    weights.write_bytes(mutated(data[:head], b"\xff" * 64, rng) + data[head : head + rng.choice((0, 64, len(data)))])
    return Case(kind, [str(small), *out, "-vf", f"{step}{weights}"])


def tiny(path: Path) -> Path:
    """A film of two frames."""
    import av
    import numpy as np

    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(2):
            picture = np.full((48, 64, 3), 90 * i, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def child(arguments: argparse.Namespace) -> None:
    """Work through cases, one JSON line before and one after each."""
    from vidrestore import cli

    folder = Path(arguments.folder)
    films = sorted(p for p in (arguments.media / "odd").iterdir() if p.is_file()) if arguments.media else []
    small = tiny(folder / "small.mkv")
    with contextlib.redirect_stderr(io.StringIO()):
        cli.run([str(small), "-o", str(folder / "out.mkv"), "-y", "--progress", "none"])
    ordinary = _peak()
    print(json.dumps({"ready": ordinary}), flush=True)
    for number in range(arguments.start, arguments.stop):
        case = made(number, arguments.seed, arguments.kinds, films, small, folder)
        print(json.dumps({"begin": number, "kind": case.kind}), flush=True)
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = cli.run(case.arguments)
        end = {"end": number, "code": code, "said": said.getvalue(), "memory": _peak() - ordinary}
        print(json.dumps(end), flush=True)


def _peak() -> int:
    """Most memory that this process has had, bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def fault(code: int, said: str, memory: int) -> str:
    """What is wrong with how a case ended; nothing where all is well."""
    lines = [line for line in said.splitlines() if not line.startswith("vidrestore: warning: ")]
    if code not in ALLOWED:
        return f"exit code {code}: {lines[:1]}"
    if len(lines) > 1 or any(not line.startswith("vidrestore: ") for line in lines):
        return f"more than a line: {lines[:3]}"
    if code and code != 6 and not lines:
        return "an error without a word"
    return f"{memory >> 20} MB" if memory > MEMORY else ""


def run(arguments: argparse.Namespace) -> tuple[Counter[str], list[str]]:
    """All cases: how often each exit code came up by kind, and what failed."""
    codes: Counter[str] = Counter()
    faults: list[str] = []
    at, stop, begun = 0, arguments.count, time.monotonic()
    while at < stop:
        with tempfile.TemporaryDirectory() as folder:
            last = min(stop, at + _CASES_A_CHILD)
            media = ["--media", str(arguments.media)] if arguments.media else []
            own = [
                "--child",
                "--folder",
                folder,
                "--start",
                str(at),
                "--stop",
                str(last),
                "--seed",
                str(arguments.seed),
            ]
            command = [sys.executable, __file__, *own, *media, "--kinds", *arguments.kinds]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            kind = ""
            if not _line(process, _READY, _READY):
                raise SystemExit("the child does not begin")
            while at < last:
                line = _line(process, SECONDS, _STILL)
                if line is None or not line:
                    what = "over a minute" if line is None else f"the process died ({process.wait()})"
                    _keep(arguments, folder, at)
                    faults.append(f"{at} ({kind}): {what}")
                    process.kill()
                    at += 1
                    break
                told = json.loads(line)
                if "begin" in told:
                    kind = told["kind"]
                    continue
                codes[f"{kind} {told['code']}"] += 1
                if what := fault(told["code"], told["said"], told["memory"]):
                    _keep(arguments, folder, at)
                    faults.append(f"{at} ({kind}): {what}")
                    if told["memory"] > MEMORY:
                        process.kill()  # its high-water mark would be told of every case to come
                        at += 1
                        break
                at += 1
            process.kill()
            process.wait()
        if arguments.tell:
            print(f"{at} cases, {len(faults)} faults, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return codes, faults


def _line(process: subprocess.Popen[str], busy: float, still: float) -> str | None:
    """The child's next line; empty where it died, None where it has worked or waited for too many seconds."""
    assert process.stdout is not None
    begun, used = time.monotonic(), _used(process)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not selector.select(1):
            if _used(process) - used > busy or time.monotonic() - begun > still:
                return None
        return process.stdout.readline()


def _used(process: subprocess.Popen[str]) -> float:
    """Seconds of the processor that a child has used."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _keep(arguments: argparse.Namespace, folder: str, number: int) -> None:
    if arguments.keep:
        shutil.copytree(folder, arguments.keep / f"case{number}", dirs_exist_ok=True)


def options(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, help="folder whose odd/ holds films to break; without it no media")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--keep", type=Path, help="folder for the inputs of cases that fail")
    parser.add_argument("--quiet", dest="tell", action="store_false")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    for name, kind in (("--folder", str), ("--start", int), ("--stop", int)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    found = parser.parse_args(given)
    if found.media is None:
        found.kinds = [kind for kind in found.kinds if kind != "media"]
    return found


def main() -> int:
    arguments = options()
    if arguments.child:
        child(arguments)
        return 0
    codes, faults = run(arguments)
    for key, count in sorted(codes.items()):
        print(f"{key:12s} {count}")
    for line in faults:
        print(f"FAULT {line}")
    print(f"{sum(codes.values())} cases, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
