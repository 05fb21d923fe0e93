"""Finds, fetches and verifies weights.

A distribution offers weights by an entry point of group ``vidrestore.weights`` that names a package with a
``manifest.toml``. Bundled files lie in that package; others are fetched into the user's cache on request only
(``vidrestore weights fetch NAME``). At rest all weights are safetensors; a published pickle is read once, with
``weights_only=True``, and converted.
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vidrestore.errors import ResourceError, UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Weights:
    """One entry of a manifest."""

    name: str
    description: str
    licence: str
    folder: Path  # of the manifest
    file: str | None = None  # bundled, in that folder
    url: str | None = None  # published, fetched on request
    sha256: str | None = None  # None: recorded at the first fetch, verified ever after
    size: int | None = None  # bytes

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
        raise ResourceError(f"weights {name}", "not here", f"vidrestore weights fetch {name}")
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
        remedy = "reinstall vidrestore" if weights.file else f"vidrestore weights fetch {weights.name} --again"
        raise ResourceError(f"weights {weights.name}", "the file has changed (SHA-256 differs)", remedy)
    return digest


def file_hash(path: Path) -> str:
    """SHA-256 of a file; remembered as long as its size and time of change stay."""
    stat = path.stat()
    return _hashed(path, stat.st_size, stat.st_mtime_ns)


def fetch(weights: Weights, progress: Callable[[int, int | None], None] | None = None, *, again: bool = False) -> Path:
    """Download into the cache, verify, convert. A cut download is resumed where it stopped.

    Raises:
        ResourceError: no network, wrong size or hash, a file that holds no tensors.
    """
    if weights.here and not again:
        weights_path(weights.name)
        return weights.path
    if weights.url is None:
        raise ResourceError(f"weights {weights.name}", "bundled, but missing", "reinstall vidrestore")
    raw = cache_folder() / f"{weights.name}.download"
    raw.parent.mkdir(parents=True, exist_ok=True)
    if again:
        raw.unlink(missing_ok=True)
    _download(weights, raw, progress)
    digest = file_hash(raw)
    _check_download(weights, raw, digest)
    _convert(weights, raw)
    raw.unlink()
    _record(weights.name, {"url": weights.url, "source_sha256": digest, "sha256": file_hash(weights.path)})
    return weights.path


def _manifest(folder: Path) -> dict[str, Weights]:
    table = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
    return {name: Weights(name=name, folder=folder, **entry) for name, entry in table.items()}


@lru_cache(maxsize=64)
def _hashed(path: Path, size: int, changed: int) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _download(weights: Weights, raw: Path, progress: Callable[[int, int | None], None] | None) -> None:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    have = raw.stat().st_size if raw.exists() else 0
    request = Request(weights.url or "", headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urlopen(request, timeout=30) as answer, raw.open("ab" if answer.status == 206 else "wb") as file:
            done = have if answer.status == 206 else 0
            length = answer.headers.get("Content-Length")
            total = done + int(length) if length else weights.size
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress:
                    progress(done, total)
    except HTTPError as error:
        if error.code == 416 and have:  # nothing is left to fetch
            return
        raise ResourceError(weights.url or "", f"the server answered {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ResourceError(weights.url or "", f"download broke off: {reason}", "run it again to resume") from error
    if total is not None and done < total:
        raise ResourceError(weights.url or "", f"download broke off at {done} of {total}", "run it again to resume")


def _check_download(weights: Weights, raw: Path, digest: str) -> None:
    known = weights.sha256 or _records().get(weights.name, {}).get("source_sha256")
    size = raw.stat().st_size
    if weights.size is not None and size != weights.size:
        raw.unlink()
        raise ResourceError(weights.url or "", f"{size} bytes instead of {weights.size}", "run it again")
    if known is not None and digest != known:
        raw.unlink()
        raise ResourceError(weights.url or "", "not the published file (SHA-256 differs)", "run it again")


def _convert(weights: Weights, raw: Path) -> None:
    """A published pickle or safetensors file -> safetensors in the cache."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    try:
        with raw.open("rb") as file:
            pickled = file.read(8)[:2] in (b"PK", b"\x80\x02", b"\x80\x04")
        state = torch.load(raw, map_location="cpu", weights_only=True) if pickled else load_file(raw)
    except (pickle.UnpicklingError, RuntimeError, SafetensorError, EOFError, ValueError) as error:
        raise ResourceError(weights.url or "", "holds no plain tensors", "report it to its publisher") from error
    part = weights.path.with_suffix(".part")
    save_file({key.removeprefix("module."): t.contiguous() for key, t in _tensors(state).items()}, part)
    part.replace(weights.path)


def _tensors(state: Any) -> dict[str, Any]:
    """The state dict inside what a training saved."""
    for key in ("params_ema", "params", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    return {key: value for key, value in state.items() if hasattr(value, "contiguous")}


def _records() -> dict[str, dict[str, str]]:
    path = cache_folder() / "records.json"
    if not path.is_file():
        return {}
    found: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _record(name: str, entry: dict[str, str]) -> None:
    path = cache_folder() / "records.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(_records() | {name: entry}, indent=1, sort_keys=True), encoding="utf-8")
    part.replace(path)
