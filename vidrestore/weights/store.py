"""Finds, fetches and verifies weights.

A distribution offers weights by an entry point of group ``vidrestore.weights`` that names a package with a
``manifest.toml``. Bundled files lie in that package; others are fetched into the user's cache on request only
(``vidrestore weights fetch NAME``), or imported from files that the user has (``vidrestore weights import NAME
PATH``). At rest all weights are safetensors; published checkpoints are read once, without running what is in them,
and converted: by the function that the manifest names as ``importer``, else as the one state dict that they hold.
"""

from __future__ import annotations

import json
import os
import tomllib
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from vidrestore.errors import InputAccessError, ResourceError, UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor

    Tell = Callable[[int, int | None], None]  # bytes done, and of how many
    Progress = Callable[["Source"], AbstractContextManager[Tell]]  # shows one download
    # what each part's file holds, by the part's name -> tensors, and notes for the header of their file
    Importer = Callable[[Mapping[str, Any]], tuple[dict[str, Tensor], dict[str, str]]]

_CHUNK: Final = 1 << 20
_CHECKPOINTS: Final = (".pt", ".pth", ".ckpt", ".safetensors")


@dataclass(frozen=True, slots=True)
class Source:
    """One published file."""

    url: str
    sha256: str | None = None  # None: recorded at the first fetch, verified ever after
    size: int | None = None  # bytes; likewise

    @property
    def part(self) -> str:
        """What the file is called among those of its weights: its name without the ending."""
        return PurePosixPath(urlsplit(self.url).path).stem


@dataclass(frozen=True, slots=True)
class Weights:
    """One entry of a manifest."""

    name: str
    description: str
    licence: str
    folder: Path  # of the manifest
    file: str | None = None  # bundled, in that folder
    sha256: str | None = None  # of the bundled file
    sources: tuple[Source, ...] = ()  # published, fetched on request
    importer: str | None = None  # "module:function"

    @property
    def path(self) -> Path:
        """Where the safetensors file lies, or will lie once fetched."""
        return self.folder / self.file if self.file else cache_folder() / f"{self.name}.safetensors"

    @property
    def here(self) -> bool:
        return self.path.is_file()


def cache_folder() -> Path:
    """``VIDRESTORE_WEIGHTS``, else the user's cache."""
    given = os.environ.get("VIDRESTORE_WEIGHTS")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vidrestore" / "weights"


def catalogue() -> dict[str, Weights]:
    """All weights that installed distributions offer, by name."""
    found: dict[str, Weights] = {}
    for point in sorted(entry_points(group="vidrestore.weights")):
        spec = find_spec(point.value)
        for place in (spec.submodule_search_locations or []) if spec else []:
            found |= _manifest(Path(place))
    return found


def find(name: str) -> Weights:
    """The manifest's entry of a name."""
    known = catalogue()
    if name not in known:
        hint = did_you_mean(name, known) or ";"
        raise UsageError("weights", f"no weights '{name}'{hint} have: {' '.join(sorted(known))}")
    return known[name]


def weights_path(name: str) -> Path:
    """The verified safetensors file of a name; a path that ends in .safetensors is a user's own file.

    Raises:
        ResourceError: it is not here, or is not the file that its manifest describes.
    """
    if name.endswith(".safetensors"):
        if not Path(name).is_file():
            raise ResourceError(f"weights {name}", "no such file")
        return Path(name)
    weights = find(name)
    if not weights.here:
        raise ResourceError(f"weights {name}", "not here", _remedy(weights))
    verify(weights)
    return weights.path


def verify(weights: Weights) -> str:
    """The file's SHA-256, compared with what is known of it.

    Raises:
        ResourceError: on a difference.
    """
    digest = file_hash(weights.path)
    known = weights.sha256 if weights.file else _records().get(weights.name, {}).get("sha256")
    if known is not None and digest != known:
        remedy = _remedy(weights) + (" --again" if weights.sources else "")
        raise ResourceError(f"weights {weights.name}", "the file has changed (SHA-256 differs)", remedy)
    return digest


def file_hash(path: Path) -> str:
    """SHA-256 of a file; remembered as long as its size and time of change stay."""
    stat = path.stat()
    return _hashed(path, stat.st_size, stat.st_mtime_ns)


def fetch(weights: Weights, progress: Progress | None = None, *, again: bool = False) -> Path:
    """Download into the cache, verify, convert. A cut download is resumed where it stopped.

    Raises:
        ResourceError: no network, wrong size or hash, a file that does not hold what it should.
    """
    if weights.here and not again:
        verify(weights)
        return weights.path
    if not weights.sources:
        what = "bundled, but missing" if weights.file else "published in parts"
        raise ResourceError(f"weights {weights.name}", what, _remedy(weights))
    files = {s.part: cache_folder() / f"{weights.name}.{s.part}.download" for s in weights.sources}
    cache_folder().mkdir(parents=True, exist_ok=True)
    for source, raw in zip(weights.sources, files.values(), strict=True):
        if again:
            raw.unlink(missing_ok=True)
        with (progress or _silent)(source) as tell:
            _download(source, raw, tell)
        _check_download(weights, source, raw)
    _convert(weights, files)
    found = {s.url: {"sha256": file_hash(files[s.part]), "size": files[s.part].stat().st_size} for s in weights.sources}
    _record(weights.name, {"sources": found, "sha256": file_hash(weights.path)})
    for raw in files.values():
        raw.unlink()
    return weights.path


def take(weights: Weights, paths: Iterable[str]) -> Path:
    """Convert published files that are on disk into the cache.

    A path is a checkpoint, called by its name without the ending; or ``part=checkpoint``; or a folder, of which all
    checkpoints are taken, or those with the published names where there are such.

    Raises:
        InputAccessError: no such file.
        UsageError: two files for one part; the weights are bundled.
        ResourceError: a file does not hold what it should.
    """
    if weights.file:
        raise UsageError(f"weights {weights.name}", "bundled: there is nothing to import")
    files = _parts(weights, paths)
    cache_folder().mkdir(parents=True, exist_ok=True)
    _convert(weights, files)
    _record(weights.name, {"files": [str(path) for path in files.values()], "sha256": file_hash(weights.path)})
    return weights.path


def _remedy(weights: Weights) -> str:
    """How weights are got."""
    if weights.file:
        return "reinstall vidrestore"
    how = f"fetch {weights.name}" if weights.sources else f"import {weights.name} PATH.."
    return f"vidrestore weights {how}"


def _silent(_: Source) -> AbstractContextManager[Tell]:
    return nullcontext(lambda _done, _total: None)


def _manifest(folder: Path) -> dict[str, Weights]:
    table = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
    found = {}
    for name, entry in table.items():
        sources = tuple(Source(**source) for source in entry.pop("sources", ()))
        found[name] = Weights(name=name, folder=folder, sources=sources, **entry)
    return found


def _parts(weights: Weights, paths: Iterable[str]) -> dict[str, Path]:
    """Name of a part -> its file."""
    found: dict[str, Path] = {}
    for part, file in (pair for text in paths for pair in _named(weights, text)):
        if not file.is_file():
            raise InputAccessError(str(file), "no such file")
        if part in found:
            raise UsageError(f"weights {weights.name}", f"two files for '{part}': {found[part]} and {file}")
        found[part] = file
    return found


def _named(weights: Weights, text: str) -> list[tuple[str, Path]]:
    """Parts and files that one path of `take` stands for."""
    path = Path(text)
    if path.is_dir():
        published = {source.part for source in weights.sources}
        files = [p for p in sorted(path.iterdir()) if p.suffix in _CHECKPOINTS]
        return [(p.stem, p) for p in files if not published or p.stem in published]
    part, named, rest = text.partition("=")
    return [(part, Path(rest)) if named and not path.exists() else (path.stem, path)]


@lru_cache(maxsize=64)
def _hashed(path: Path, size: int, changed: int) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _download(source: Source, raw: Path, tell: Tell) -> None:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    have = raw.stat().st_size if raw.exists() else 0
    request = Request(source.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urlopen(request, timeout=30) as answer, raw.open("ab" if answer.status == 206 else "wb") as file:
            done = have if answer.status == 206 else 0
            length = answer.headers.get("Content-Length")
            total = done + int(length) if length else source.size
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                tell(done, total)
    except HTTPError as error:
        if error.code == 416 and have:  # nothing is left to fetch
            return
        raise ResourceError(source.url, f"the server answered {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ResourceError(source.url, f"download broke off: {reason}", "run it again to resume") from error
    if total is not None and done < total:
        raise ResourceError(source.url, f"download broke off at {done} of {total}", "run it again to resume")


def _check_download(weights: Weights, source: Source, raw: Path) -> None:
    known = _records().get(weights.name, {}).get("sources", {}).get(source.url, {})
    size, digest = source.size or known.get("size"), source.sha256 or known.get("sha256")
    have = raw.stat().st_size
    if size is not None and have != size:
        raw.unlink()
        raise ResourceError(source.url, f"{have} bytes instead of {size}", "run it again")
    if digest is not None and file_hash(raw) != digest:
        raw.unlink()
        raise ResourceError(source.url, "not the published file (SHA-256 differs)", "run it again")


def _convert(weights: Weights, files: Mapping[str, Path]) -> None:
    """Published checkpoints -> one safetensors file in the cache."""
    from vidrestore.weights.published import read

    importer: Importer = resolve_name(weights.importer) if weights.importer else _as_it_is
    tensors, header = importer({part: read(path) for part, path in files.items()})
    write_weights(weights.path, tensors, header)


def write_weights(path: Path, tensors: Mapping[str, Tensor], header: dict[str, str] | None = None) -> None:
    """A safetensors file, whole or not at all. Raises OSError where it cannot be written."""
    from safetensors.torch import save_file

    part = path.with_suffix(".part")
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, part, header)
    part.replace(path)


def _as_it_is(parts: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The importer of weights that are one state dict."""
    from vidrestore.weights.published import state_dict

    if len(parts) != 1:
        raise UsageError("weights", f"{len(parts)} files; these weights are one file")
    ((part, content),) = parts.items()
    if not (state := state_dict(content)):
        raise ResourceError(f"checkpoint {part}", "holds no plain tensors", "it is not the published file")
    return state, {}


def _records() -> dict[str, dict[str, Any]]:
    path = cache_folder() / "records.json"
    if not path.is_file():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _record(name: str, entry: dict[str, Any]) -> None:
    path = cache_folder() / "records.json"
    part, records = path.with_suffix(".part"), _records()
    part.write_text(
        json.dumps(records | {name: records.get(name, {}) | entry}, indent=1, sort_keys=True), encoding="utf-8"
    )
    part.replace(path)
