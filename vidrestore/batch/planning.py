"""From what is asked for to jobs in the store."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vidrestore.batch.sources import check_names
from vidrestore.batch.spec import Spec, check_batch, identity_of, weights_of
from vidrestore.config import resolve
from vidrestore.errors import OutputError, VidrestoreError
from vidrestore.media.encoding import CONTAINERS
from vidrestore.media.segments import sha256_of
from vidrestore.media.tracks import default_suffix
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidrestore.batch.sources import Wanted
    from vidrestore.batch.store import Job, Store
    from vidrestore.config import RunConfig

_SUFFIX: Final = {"matroska": ".mkv", "mkv": ".mkv", "mpegts": ".ts", "ts": ".ts"}


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags of a batch, which every film's own options are laid over."""

    preset: str | None
    chain: str | None
    settings: dict[str, Any]
    encoder: dict[str, str]
    config_file: Path | None
    flags_of: dict[str, dict[str, str | None]]
    segment: int = 240
    whole: bool = False  # sources are told apart by all of their bytes
    overwrite: bool = False
    masks: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """One film with everything settled."""

    source: Path
    output: Path
    spec: Spec
    key: str


def plan(store: Store, films: Sequence[Wanted], asked: Asked) -> list[Planned]:
    """Settle every film. Nothing is written. Raises UsageError (2), OutputError (5) or ResourceError (7): all that
    can be known before any work."""
    known = {job.source: job for job in store.jobs()}
    specs: dict[str, Spec] = {}
    found = []
    for film in films:
        spec = _spec(film, asked, specs)
        identity = _identity(film.source, whole=asked.whole)
        output = film.output or _output_before(known.get(film.source), spec, identity) or _output(film, spec)
        found.append(Planned(film.source, output, spec, spec.key(identity, output)))
    check_names([(p.source, p.output) for p in found])
    for planned in found:
        _check_free(store, planned)
    return found


def enqueue(store: Store, planned: Planned) -> Job:
    """Make it a job, unless it is one; what is done and still there stays done."""
    job = store.add(planned.key, planned.source, planned.output, planned.spec.text())
    if job.state == "done" and not intact(store, job):
        store.reopen(job.id, anew=True)
        job = store.job(job.id)
    return job


def again(store: Store, job: Job) -> None:
    """Let a job that has failed be worked on again. What a film that broke off has left is replaced."""
    if job.state == "failed":
        store.reopen(job.id)
    elif job.state == "done" and job.code:
        ours = intact(store, job)
        store.reopen(job.id, anew=True, spec=replace(Spec.read(job.spec), overwrite=ours).text())


def intact(store: Store, job: Job, *, thorough: bool = False) -> bool:
    """Whether a job's output is there as it was published. Its bytes are read where its size and time differ from
    what they were, or where asked to be ``thorough``."""
    target = store.out / job.output
    if not target.is_file():
        return False
    status, then = target.stat(), json.loads(job.result)
    if not thorough and (status.st_size, status.st_mtime_ns) == (then["size"], then["mtime"]):
        return True
    return status.st_size == then["size"] and sha256_of(target, lambda: None) == job.sha256


def _spec(film: Wanted, asked: Asked, specs: dict[str, Spec]) -> Spec:
    """Films with the same options share one."""
    options = json.dumps([film.preset, film.chain, film.settings, film.encoder], sort_keys=True)
    if options not in specs:
        config: RunConfig = resolve(
            preset=film.preset or asked.preset,
            chain=film.chain or asked.chain,
            settings={**asked.settings, **film.settings},
            encoder={**asked.encoder, **film.encoder},
            config_file=asked.config_file,
            flags_of=asked.flags_of,
        )
        check_batch(config)
        weights = weights_of(config)
        specs[options] = Spec.of(config, asked.segment, weights, overwrite=asked.overwrite, masks=asked.masks)
    return specs[options]


def _identity(source: Path, *, whole: bool) -> str:
    """A source that cannot be read has an identity too: its job says what is wrong, the others go on."""
    try:
        return identity_of(source, whole=whole)
    except VidrestoreError as error:
        return str(error)


def _output_before(job: Job | None, spec: Spec, identity: str) -> Path | None:
    """The output of the same job of an earlier run: the film need not be looked at again."""
    return job.output if job is not None and job.key == spec.key(identity, job.output) else None


def _output(film: Wanted, spec: Spec) -> Path:
    """``tree/name.restored.*``, in the container that the input's family and its streams ask for."""
    form = spec.encoder.get("f")
    suffix = _suffix(film.source, spec) if form is None else _SUFFIX.get(form, f".{form}")
    return film.place / f"{film.source.stem}.restored{suffix}"


def _suffix(source: Path, spec: Spec) -> str:
    from vidrestore.engine.film import opened

    try:
        with opened(str(source), spec.config(), Notes()) as film:
            return default_suffix(film.read.info, film.read.streams)
    except VidrestoreError:
        own = source.suffix.lower()  # its job will say what is wrong
        return own if own in CONTAINERS else ".mkv"


def _check_free(store: Store, planned: Planned) -> None:
    """An output that is there is only replaced where that was asked for, or where it is this very job's."""
    target = store.out / planned.output
    job = store.job_of(planned.output)
    if planned.spec.overwrite or not target.exists():
        return
    if job is None or job.key != planned.key:
        other = "exists" if job is None else "exists, made with other options or from another source"
        raise OutputError(str(target), other, "use -y to replace it, or another -o")
    if job.state == "done" and not intact(store, job):
        raise OutputError(str(target), "was changed since it was published", "use -y to make it anew")
