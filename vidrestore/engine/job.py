"""One film: opened, restored, published, recorded."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vidrestore.engine.fallback import FAULTS, check_fallback, check_fits, fall_back, told, with_fallback
from vidrestore.engine.film import OpenFilm, compared, opened, silent
from vidrestore.engine.flags import encode_settings, read_settings
from vidrestore.engine.masks import MasksBeside, masks_into
from vidrestore.engine.parts import Part, check_split, note_parts, parts_of, told_of
from vidrestore.engine.record import NOTICE, Record, comment, write_json
from vidrestore.engine.staging import stages_of
from vidrestore.engine.stamping import check_preserve
from vidrestore.errors import ClosedPipe, OutputError, UsageError, VidrestoreError
from vidrestore.media.opening import address_scheme, stem_of
from vidrestore.media.tracks import default_suffix
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from vidrestore.config import RunConfig
    from vidrestore.engine.clock import Clock
    from vidrestore.media.comparing import How
    from vidrestore.media.reader import Source
    from vidrestore.media.writer import Sink
    from vidrestore.types import Frame, Window

_LONGEST_NAME = 250  # bytes, without the record's ending


@dataclass(frozen=True, slots=True)
class Job:
    """What one command asks for."""

    source: str  # a path, or "-"
    target: str | None  # a path, "-", or None: beside the source
    config: RunConfig
    overwrite: bool = False
    skip_existing: bool = False
    report: Path | None = None  # None: beside the target
    masks: Path | None = None  # where what was blended goes, as a film of its own
    work: Work | None = None  # None: restoring
    compare: How | None = None  # beside its source, instead of alone
    part: Part | None = None  # this stretch of it alone
    folder: Path | None = None  # where the target goes in place of its own folder: a trial


@dataclass(frozen=True, slots=True)
class Work:
    """What is done to a film, and how that is told."""

    suffix: str  # of the output's name
    notice: str  # of the record: what whoever sees the film should know
    said: str  # in the container's tag
    frames: Callable[[RunConfig, Source, Record, Notes, Clock], Generator[tuple[Frame, Window | None], None, None]]


@dataclass(slots=True)
class Progress:
    """Where a run stands."""

    frames: int
    total: int | None  # an estimate
    faces: int
    seconds: float  # of the film


def run(job: Job, notes: Notes, tell: Callable[[Progress], None] | None = None) -> Record:
    """Restore one film.

    The record is written in every case, where there is a place for it. Raises VidrestoreError; PartialInput
    after publishing what could be read.
    """
    work = job.work or RESTORING
    record = Record(job.source, job.target or "", job.config, notice=work.notice)
    error: BaseException | None = None
    try:
        job, *others = _in_parts(job, work, notes)
        try:
            _run(job, work, record, notes, tell)
        except FAULTS as fault:
            instead = fall_back(job.config, fault, record, notes)
            if instead is None:
                raise
            failed = told(fault, record)
            job = replace(job, config=instead)
            record = Record(job.source, job.target or "", instead, notice=work.notice, fallback=failed)
            _run(job, work, record, notes, tell)
        if others:
            record.parts = [told_of(job, record)]
        for other in others:
            record.parts.append(told_of(other, run(other, notes.another(), tell)))
    except BaseException as caught:
        error = caught
        raise
    finally:
        path = _report_path(job, record)
        if path is not None:
            _write_record(job, path, record, notes, error)
    return record


class Skipped(VidrestoreError):
    """The output is there already and ``-n`` says to leave it."""

    exit_code = 0


def _in_parts(job: Job, work: Work, notes: Notes) -> list[Job]:
    """A job for every stretch of a film that is to be split and changes on the way, else the one there is."""
    if job.part is not None or job.config.settings.on_change != "split":
        return [job]
    check_split(job.config, job.source, job.target)
    with opened(job.source, job.config, Notes(silent)) as film:
        target = target_of(job, film.source)
    assert target is not None
    if job.skip_existing and target.exists():
        return [job]
    parts = parts_of(job.source, job.config, read_settings(job.config))
    if not parts:
        return [job]
    note_parts(job.source, parts, target, notes)
    jobs = [replace(job, part=part) for part in parts]
    passing = FAULTS if job.config.settings.fallback_encoder is not None else ()
    for one in jobs:  # what would be refused of any is refused before the first frame
        with suppress(*passing), _both_ends(one, work, Record(job.source, "", job.config), Notes(silent)):
            pass
    return jobs


def _run(job: Job, work: Work, record: Record, notes: Notes, tell: Callable[[Progress], None] | None) -> None:
    with _both_ends(job, work, record, notes) as (film, sink, masks):
        try:
            _carry_out(work, job.config, film, sink, record, notes, tell, masks)
            if masks is not None:
                record.masks = masks.publish()
            sink.finish()
        except ClosedPipe:
            raise
        except BaseException:
            sink.abort(keep_partial=job.config.settings.keep_partial)
            if masks is not None:
                masks.withdraw()
            raise
        finally:
            _describe_output(record, film.source, sink)
    if film.source.failure is not None:
        raise film.source.failure


@contextmanager
def _both_ends(
    job: Job, work: Work, record: Record, notes: Notes
) -> Iterator[tuple[OpenFilm, Sink, MasksBeside | None]]:
    """The film and its output, opened: whatever can be refused is refused by then."""
    if job.source == "-" and job.target is None:
        what = "standard input has no name to derive the output's from"
        raise UsageError("-", what, "add -o FILE, or -o - for a pipe")
    if address_scheme(job.source) and job.target is None:
        raise UsageError(job.source, "an address has no folder for the output", "add -o FILE")
    if job.compare and job.source == "-":
        raise UsageError("--compare", "a film is read twice to be compared", "name a file")
    if job.config.settings.preserve:
        check_preserve(job.source, job.target)
    fallback = job.config.settings.fallback_encoder
    if fallback is not None:
        check_fallback(fallback, job.source, job.target)
    stretch = job.part.read if job.part is not None else None
    with ExitStack() as stack:
        film = stack.enter_context(opened(job.source, job.config, notes, stretch))
        if job.compare:
            again = stack.enter_context(opened(job.source, job.config, Notes(silent), stretch))
            film = compared(film, again, job.compare)
        source = film.source
        target = target_of(job, source)
        record.target = "-" if target is None else str(target)
        describe_input(record, film.read)
        if target is not None and job.skip_existing and target.exists():
            raise Skipped(str(target), "exists", "skipped")
        tags = _tags(record, work) | comment(film.read.info.metadata, work.notice)
        settings = encode_settings(job.config, tags, piped=target is None, named=job.target is not None)
        if fallback is not None and target is not None:
            other = encode_settings(with_fallback(job.config), tags, piped=False, named=job.target is not None)
            check_fits(other, target, film.finished.info)
        encoder = job.config.step("encode").make()
        masks = stack.enter_context(_masks(job, film)) if job.masks else None
        with encoder.open(target, film.finished, settings, notes, overwrite=job.overwrite) as sink:
            yield film, sink, masks


def _masks(job: Job, film: OpenFilm) -> AbstractContextManager[MasksBeside]:
    assert job.masks is not None
    path = job.part.of(job.masks) if job.part else job.masks
    return masks_into(path, film.source, job.config.settings.encoder_threads, overwrite=job.overwrite)


def finished_frames(source: str, config: RunConfig, notes: Notes) -> Iterator[Frame]:
    """The finished frames of a film, for whoever writes them himself. Raises as `run` does; PartialInput at the end,
    when all that could be read has been given."""
    from vidrestore.engine.clock import Clock

    record = Record(source, "", config)
    with opened(source, config, notes) as film:
        frames = RESTORING.frames(config, film.source, record, notes, Clock())
        try:
            for frame, _ in frames:
                yield from film.through(frame)
            yield from film.through(None)
        finally:
            frames.close()
        if film.read.failure is not None:
            raise film.read.failure


def _carry_out(
    work: Work,
    config: RunConfig,
    film: OpenFilm,
    sink: Sink,
    record: Record,
    notes: Notes,
    tell: Callable[[Progress], None] | None,
    masks: MasksBeside | None,
) -> None:
    from vidrestore.engine.clock import Clock

    clock = Clock()
    total = film.source.info.frames or _expected(film.source)
    frames = work.frames(config, film.source, record, notes, clock)
    try:
        for frame, window in frames:
            record.see(frame, window)
            if masks is not None:
                with clock("masks"):
                    masks.see(frame, window)
            with clock("encode"):
                for out in film.through(frame):
                    sink.write(out)
            if tell is not None:
                tell(Progress(record.frames_out, total, record.faces, frame.seconds))
        for out in film.through(None):
            sink.write(out)
    finally:
        frames.close()
        record.seconds = clock.seconds()


def _frames(
    config: RunConfig, source: Source, record: Record, notes: Notes, clock: Clock
) -> Generator[tuple[Frame, Window | None], None, None]:
    """The finished frames. Where no picture is looked at, they go through and torch is not even imported."""
    if config.step("detect").make().side == 0:
        for frame in source.frames():
            yield frame, None
        return
    from vidrestore.engine.fields import top_first
    from vidrestore.engine.pipeline import restored

    stages = replace(stages_of(config, record), top_first=top_first(config, source.info))
    yield from restored(source.frames(), stages, notes, clock)


RESTORING = Work("restored", NOTICE, "synthesised=faces", _frames)
PREVIEWING = replace(RESTORING, suffix="preview")  # its name is not the finished film's
COMPARING = replace(RESTORING, suffix="compare")


def target_of(job: Job, source: Source) -> Path | None:
    """The path a job writes to; None for standard output."""
    if job.target == "-":
        return None
    path = Path(job.target or job.source)
    if job.target is None:
        suffix = (job.work or RESTORING).suffix
        path = path.with_name(f"{stem_of(job.source)}.{suffix}{default_suffix(source.info, source.streams)}")
    path = job.part.of(path) if job.part else path
    return path if job.folder is None else job.folder / path.name


def _tags(record: Record, work: Work) -> dict[str, str]:
    import vidrestore

    chain = record.config
    return {
        "VIDRESTORE": f"{work.said}; tool=vidrestore/{vidrestore.__version__}; "
        f"chain={chain.chain}; report={_report_name(record.target)}"
    }


def _report_name(target: str) -> str:
    """The record's name: the output's and ``.json``, shortened to what a file system holds."""
    name = Path(target).name if target != "-" else ""
    while len(os.fsencode(name)) > _LONGEST_NAME:
        name = name[:-1]
    return name and f"{name}.json"


def _report_path(job: Job, record: Record) -> Path | None:
    if job.report is not None:
        return job.part.of(job.report) if job.part else job.report
    target = record.target or job.target or ""
    return None if target in ("", "-") else Path(target).with_name(_report_name(target))


def _write_record(job: Job, path: Path, record: Record, notes: Notes, error: BaseException | None) -> None:
    if isinstance(error, Skipped):
        return
    there = not record.parts and Path(record.target).exists()
    taken = isinstance(error, OutputError) and not job.overwrite and there
    if taken and job.report is None:
        return  # an earlier result keeps its own record
    try:
        write_json(path, record.as_dict(notes, error))
    except OSError as failed:
        if error is None:
            raise OutputError(
                str(path), f"the run record cannot be written: {failed.strerror}", "use --report"
            ) from failed
        if not isinstance(error, OutputError):  # else the error's own line has said why
            notes.warn("no_record", str(path), f"the run record cannot be written: {failed.strerror}")


def _expected(source: Source) -> int | None:
    info = source.info
    return None if info.duration is None else max(1, round(info.duration * info.rate))


def describe_input(record: Record, source: Source) -> None:
    """Enter what a film is into its record."""
    info = source.info
    layout = info.layout
    record.input = {
        "container": info.formats[0],
        "codec": info.codec,
        "pix_fmt": info.pix_fmt,
        "width": layout.width,
        "height": layout.height,
        "rate": str(info.rate),
        "time_base": str(info.time_base),
        "duration": None if info.duration is None else float(info.duration),
        "matrix": layout.matrix,
        "full_range": layout.full_range,
        "streams": [str(s) for s in info.streams],
        "size": Path(record.source).stat().st_size if Path(record.source).is_file() else None,
    }


def _describe_output(record: Record, source: Source, sink: Sink) -> None:
    record.input |= {
        "frames_in": source.frames_in,
        "corrupt_frames": source.corrupt_frames,
        "bad_packets": source.bad_packets,
        "ts_fixed": source.ts_fixed,
    }
    record.output = {key: value for key, value in asdict(sink.summary).items() if key != "target"}
