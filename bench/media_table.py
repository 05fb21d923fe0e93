"""What becomes of every kind of file: the tables of docs/media.md, made by running what they tell of.

    python bench/media_table.py --rows                       # the classes, each with its tests and how they ended
    python bench/media_table.py --odd DIR --faults DIR       # every file of two folders, run twice each

``--rows`` reads bench/media_rows.tsv and runs the tests that carry a row's number in their name (``test_a2_061_...``;
those on real clips only where VIDRESTORE_MEDIA names their folder). A file is run as it is (its own kind of container
and codec), and once to FFV1 in Matroska: there every frame must be the same to the bit and at the same time, or one
line says why there is no film. Tables are put between the marks in docs/media.md. Exit code 1 where anything failed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from hashlib import md5
from pathlib import Path
from typing import TYPE_CHECKING

from vidrestore import cli
from vidrestore.errors import VidrestoreError, printable
from vidrestore.media.reader import PyAVDecoder, ReadSettings
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
DOC, ROWS = ROOT / "docs" / "media.md", ROOT / "bench" / "media_rows.tsv"
_NUMBERED = re.compile(r"test_a2_((?:\d+_)+)")
_PLAIN = "decode=pyav:threads=1,detect=none,restore=none"  # one thread: damage is mended one way alone
_TICK = Fraction(2, 1000)  # Matroska's times are rounded to one


# -- classes and their tests ---------------------------------------------------------------------------------------


def tests_of_rows() -> dict[int, list[str]]:
    """Number of a row -> pytest's names of its tests."""
    found: dict[int, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (match := _NUMBERED.match(node.name)):
                for number in match[1].strip("_").split("_"):
                    found.setdefault(int(number), []).append(f"{path.relative_to(ROOT)}::{node.name}")
    return found


def outcomes(tests: set[str]) -> dict[str, Counter[str]]:
    """Test -> how often its cases passed, failed, were skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        subprocess.run([*command, *sorted(tests)], cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        ended: dict[str, Counter[str]] = {}
        for case in ET.parse(report).iter("testcase"):
            where = case.attrib["classname"].replace(".", "/") + ".py"
            state = next((kind.tag for kind in case if kind.tag in ("failure", "error", "skipped")), "passed")
            ended.setdefault(f"{where}::{case.attrib['name'].partition('[')[0]}", Counter())[state] += 1
        return ended


def table_of_rows() -> tuple[list[str], bool]:
    """The lines of the table, and whether all is well."""
    tests = tests_of_rows()
    ended = outcomes({name for names in tests.values() for name in names})
    lines = ["| # | what a file has, or what happens | what we do | tests | result |", "|---|---|---|---|---|"]
    well = True
    for row in ROWS.read_text(encoding="utf-8").splitlines():
        number, what, done = row.split("\t")
        names = tests.get(int(number), [])
        sums = sum((ended.get(name, Counter()) for name in names), Counter[str]())
        bad = sums["failure"] + sums["error"] or not sums["passed"]
        well &= not bad
        result = f"{sums['passed']} passed" + (f", {sums['failure'] + sums['error']} FAILED" if bad else "")
        shown = "<br>".join(f"`{Path(n.partition('::')[0]).name}` {n.partition('::')[2][8:]}" for n in names)
        lines.append(f"| {number} | {what} | {done} | {shown} | {result} |")
    return lines, well


# -- files ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """How one command ended."""

    code: int
    said: list[str]


@dataclass(frozen=True)
class Told:
    """What the reader sees of a file."""

    frames: list[tuple[Fraction, str]]  # seconds, sum of all planes
    kinds: Counter[str]  # of streams
    kind: str  # container and codec


def run(source: Path, *more: str) -> Run:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = cli.run([*more, "-y", "--progress", "none", "--", str(source)])
    lines = [line.removeprefix("vidrestore: ") for line in said.getvalue().splitlines()]
    return Run(code, [line.replace(printable(str(source)) + ": ", "") for line in lines])


def told(path: Path) -> Told:
    """Read a film to its end."""
    settings = ReadSettings(keep_going=True)
    with PyAVDecoder(PyAVDecoder.Options(threads=1)).open(str(path), Notes(), settings=settings) as film:
        frames = [
            (f.pts * f.time_base, md5(b"".join(p.tobytes() for p in f.planes)).hexdigest()) for f in film.frames()
        ]
        kinds = Counter(s.kind for s in film.info.streams)
        return Told(frames, kinds, f"{path.suffix} {film.info.codec}")


def differences(before: Told, after: Told) -> list[str]:
    """What is not as it was, in words."""
    found = []
    if len(before.frames) != len(after.frames):
        found.append(f"{len(after.frames)} of {len(before.frames)} frames")
    pairs = list(zip(before.frames, after.frames, strict=False))
    if other := sum(a[1] != b[1] for a, b in pairs):
        found.append(f"{other} frames differ")
    if pairs:
        shift = pairs[0][1][0] - pairs[0][0][0]
        if late := sum(abs(b[0] - a[0] - shift) > _TICK for a, b in pairs):
            found.append(f"{late} times differ")
    return found


def line_of(path: Path, folder: Path) -> tuple[str, bool]:
    """What became of a file, and whether it is right: a film that is the same, or one line that says why not."""
    own = folder / "own"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    source = own / path.name  # beside it goes the output
    if path.is_symlink() or path.is_dir():
        source = path
    else:
        shutil.copyfile(path, source)
    as_is = run(source, "-vf", _PLAIN, "-preset", "ultrafast")
    if as_is.code == 2:  # an encoder without such a preset
        as_is = run(source, "-vf", _PLAIN)
    errors = [line for line in as_is.said if line.startswith("error: ")]
    warnings = [line.removeprefix("warning: ") for line in as_is.said if line.startswith("warning: ")]
    out = next((p for p in own.iterdir() if ".restored." in p.name and p.suffix != ".json"), None)
    if as_is.code not in (0, 6) or out is None:
        return f"**{as_is.code}**: {errors[0] if errors else '?'}", len(errors) == 1 and as_is.code in (3, 4, 5)
    before, after = told(source), told(out)
    exact = folder / f"exact{out.suffix if out.suffix in ('.png', '.jpg') else '.mkv'}"
    still = exact.suffix != ".mkv"
    lossless = run(source, "-vf", _PLAIN, *([] if still else ["-c:v", "ffv1", "-c:a", "flac"]), "-o", str(exact))
    wrong = differences(before, told(exact)) if not (still and exact.suffix == ".jpg") else []
    wrong += [f"as {after.kind}: {len(after.frames)} frames"] if len(after.frames) != len(before.frames) else []
    lost = before.kinds - after.kinds
    text = f"**{as_is.code}**: {len(before.frames)} frames, " + ("; ".join(wrong) or "the same to the bit")
    text += f"; out {after.kind}" + (f"; without {', '.join(f'{n} {k}' for k, n in lost.items())}" if lost else "")
    text += "".join(f"<br>{line}" for line in (*warnings, *errors))
    return text, not wrong and lossless.code == as_is.code and len(errors) == (as_is.code == 6)


def table_of_files(folder: Path) -> tuple[list[str], bool]:
    """The lines of the table, and whether all is well."""
    lines, well, count = ["| file | what became of it |", "|---|---|"], True, 0
    with tempfile.TemporaryDirectory() as own:
        for path in sorted(p for p in folder.iterdir() if p.name != "MANIFEST.tsv"):
            try:
                text, right = line_of(path, Path(own))
            except VidrestoreError as error:
                text, right = f"the output cannot be read: {error}", False
            well &= right
            count += right
            name = printable(path.name)
            short = name if len(name) < 60 else f"{name[:8]}... ({len(name)} letters)"
            lines.append(f"| {code(short)} | {'' if right else 'WRONG '}{escaped(text)} |")
            print(lines[-1], flush=True)
    return [f"{count} of {len(lines) - 2} as they should be.", "", *lines], well


def code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    pad = " " if "`" in text or text != text.strip() else ""
    return f"{fence}{pad}{text.replace('|', chr(92) + '|')}{pad}{fence}"


def escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("*.", r"\*.")


# -- the document --------------------------------------------------------------------------------------------------


def put(name: str, lines: list[str]) -> None:
    """Replace what stands between the marks of a name."""
    text = DOC.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    DOC.write_text(before + begin + "\n".join(lines) + "\n" + end + after, encoding="utf-8")


def sections(args: argparse.Namespace) -> Iterator[bool]:
    if args.rows:
        lines, well = table_of_rows()
        put("rows", lines)
        yield well
    for name in ("odd", "faults"):
        if folder := getattr(args, name):
            lines, well = table_of_files(folder)
            put(name, lines)
            yield well


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", action="store_true")
    parser.add_argument("--odd", type=Path, help="a folder of odd films")
    parser.add_argument("--faults", type=Path, help="a folder of made ones, a fault or a feature each")
    args = parser.parse_args()
    return 0 if all(list(sections(args))) else 1


if __name__ == "__main__":
    sys.exit(main())
