"""Which films a batch is about: folders, patterns, files and manifests, each film with its place in the output tree."""

from __future__ import annotations

import csv
import json
import os
import unicodedata
from dataclasses import dataclass, field
from glob import has_magic
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Final

from vidrestore.config import Settings
from vidrestore.errors import InputAccessError, UsageError, did_you_mean, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What is taken from folders. Named alone, or by a pattern, any file is taken.
FILMS: Final = (
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip
MANIFESTS: Final = (".csv", ".jsonl")
_KEYS: Final = ("source", "output", "preset", "chain")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One film that is asked for."""

    source: Path  # absolute
    place: Path  # folder of the output, relative to the output tree's root
    output: Path | None = None  # relative, where the manifest names it
    preset: str | None = None
    chain: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    encoder: dict[str, str] = field(default_factory=dict)


def find(sources: Sequence[str], out: Path) -> list[Wanted]:
    """All films, sorted within each source, none twice; what lies in ``out`` is none of them.

    Raises InputAccessError (3) for a source that is not there, UsageError (2) for a manifest that cannot be read and
    for outputs that must not be.
    """
    found: dict[Path, Wanted] = {}
    for source in sources:
        for wanted in _of(source, out.absolute()):
            found.setdefault(wanted.source, wanted)
    if not found:
        raise InputAccessError(printable(" ".join(sources)), "no film is there", "name folders, files or patterns")
    return list(found.values())


def check_names(outputs: Sequence[tuple[Path, Path]]) -> None:
    """Refuse two sources with one output; on many systems names that differ in case are one.

    outputs: (source, output). Raises UsageError (2).
    """
    taken: dict[str, Path] = {}
    for source, output in outputs:
        name = unicodedata.normalize("NFC", str(output)).casefold()
        if name in taken:
            both = f"{printable(str(taken[name]))} and {printable(str(source))}"
            raise UsageError(str(output), f"is the output of both {both}", "name outputs in a manifest")
        taken[name] = source


def _of(source: str, out: Path) -> Iterator[Wanted]:
    path = Path(source)
    if path.is_dir():
        yield from _of_folder(path, out)
    elif path.is_file() and path.suffix.lower() in MANIFESTS:
        yield from _of_manifest(path)
    elif path.is_file():
        yield Wanted(path.absolute(), Path())
    elif path.exists():
        raise InputAccessError(source, "is no file that could be read again", "write it to a file first")
    elif has_magic(source):
        yield from _of_pattern(source, out)
    else:
        raise InputAccessError(source, "no such file or folder")


def _of_folder(folder: Path, out: Path) -> Iterator[Wanted]:
    for here, folders, names in os.walk(folder.absolute()):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and Path(here, f) != out)
        for path in (Path(here, name) for name in sorted(names)):
            if not path.name.startswith(".") and path.suffix.lower() in FILMS and path.is_file():
                yield Wanted(path, Path(here).relative_to(folder.absolute()))


def _of_pattern(pattern: str, out: Path) -> Iterator[Wanted]:
    parts = Path(pattern).parts
    first = next(i for i, part in enumerate(parts) if has_magic(part))
    fixed = Path(*parts[:first]).absolute()
    for path in sorted(fixed.glob("/".join(parts[first:]))):
        if path.is_file() and not path.is_relative_to(out):
            yield Wanted(path, path.parent.relative_to(fixed))


# -- manifests -----------------------------------------------------------------------------------------------------


def _of_manifest(path: Path) -> Iterator[Wanted]:
    """Lines of a manifest. Sources are relative to its folder; every other column is an option."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise InputAccessError(str(path), f"cannot be read: {error.strerror}") from error
    rows = _json_lines(text, path) if path.suffix.lower() == ".jsonl" else _csv_rows(text, path)
    for where, row in rows:
        yield _wanted(row, path, where)


def _csv_rows(text: str, path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    reader = csv.DictReader(text.splitlines(), strict=True)
    try:
        for row in reader:
            if None in row:
                raise UsageError(str(path), f"line {reader.line_num}: more values than the first line has names")
            yield f"line {reader.line_num}", {key.strip(): value for key, value in row.items() if value}
    except csv.Error as error:
        raise UsageError(str(path), f"line {reader.line_num}: {error}") from error


def _json_lines(text: str, path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(str(path), f"line {number}: no JSON: {error}") from error
        if not isinstance(row, dict) or any(isinstance(value, dict | list) for value in row.values()):
            raise UsageError(str(path), f"line {number}: must be an object of plain values", '{"source": "a.mp4"}')
        yield f"line {number}", {key: str(value) for key, value in row.items() if value is not None}


def _wanted(row: dict[str, str], path: Path, where: str) -> Wanted:
    if "source" not in row:
        raise UsageError(str(path), f"{where}: no source", "the columns are: source, output, chain, preset, ...")
    encoder = {key[1:]: value for key, value in row.items() if key.startswith("-")}
    settings = {key: value for key, value in row.items() if key not in _KEYS and not key.startswith("-")}
    for key in settings:
        if key not in Settings.model_fields:
            near = did_you_mean(key, [*_KEYS, *Settings.model_fields])
            raise UsageError(str(path), f"{where}: no option '{printable(key)}'{near}", "encoder options begin with -")
    if "\0" in row["source"]:
        raise UsageError(str(path), f"{where}: a name holds a zero byte")
    source = Path(os.path.normpath(path.absolute().parent / row["source"]))
    output = _inside(row["output"], path, where) if "output" in row else None
    given = Path(row["source"])
    place = Path() if given.is_absolute() or ".." in given.parts else given.parent
    return Wanted(source, place, output, row.get("preset"), row.get("chain"), settings, encoder)


def _inside(name: str, path: Path, where: str) -> Path:
    """An output's name, which must stay inside the output tree on any system."""
    for pure in (PurePosixPath(name), PureWindowsPath(name)):
        hidden = any(part.startswith(".") for part in pure.parts)
        if pure.is_absolute() or pure.drive or pure.root or ".." in pure.parts:
            raise UsageError(str(path), f"{where}: output '{printable(name)}' leads out of the output folder")
        if hidden or not pure.name or "\0" in name:
            raise UsageError(str(path), f"{where}: '{printable(name)}' is no name of an output")
    return Path(name)
