"""A film's segments put together, verified and published, with all that lies beside it."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vidrestore.batch.ledger import put_together
from vidrestore.batch.previews import keep_best
from vidrestore.batch.restoring import MASKS, piece_path
from vidrestore.batch.spec import Spec
from vidrestore.batch.store import Lost
from vidrestore.engine.film import OpenFilm, opened
from vidrestore.engine.flags import encode_settings
from vidrestore.engine.job import describe_input
from vidrestore.engine.masks import DECODED, FINISHED, published
from vidrestore.engine.record import Record, comment, write_json, write_text
from vidrestore.errors import OutputError, RunError
from vidrestore.media.masks import MaskFilm, OutsideCheck, keeps_all, mask_frame, mask_settings, no_mask
from vidrestore.media.segments import Piece, check_film, join_sink, sha256_of
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vidrestore.batch.bench import Bench
    from vidrestore.batch.store import Job, Task
    from vidrestore.config import RunConfig
    from vidrestore.media.writer import Sink


@dataclass(slots=True)
class _Film:
    """What a join works on."""

    bench: Bench
    job: Job
    task: Task
    config: RunConfig
    segments: Sequence[Task]
    results: Sequence[dict[str, Any]]  # of the segments
    record: Record
    notes: Notes
    source_hash: str

    @property
    def target(self) -> Path:
        return self.bench.store.out / self.job.output

    @property
    def masks(self) -> Path | None:
        """Where the masks go, where they are wanted."""
        return self.target.with_name(f"{self.target.name}.masks.mkv") if Spec.read(self.job.spec).masks else None

    def path(self, segment: Task) -> Path:
        return piece_path(self.bench.folder(self.job.id), segment)

    def pieces(self) -> list[Piece]:
        both = zip(self.segments, self.results, strict=True)
        return [Piece(self.path(s), r["pts"], r["durations"]) for s, r in both]

    def mask_pieces(self) -> list[Piece]:
        return [
            Piece(self.path(s).with_suffix(MASKS), *map(list, zip(*r["masks"]["times"], strict=True)))
            for s, r in zip(self.segments, self.results, strict=True)
        ]


def join(bench: Bench, job: Job, task: Task, config: RunConfig) -> None:
    """Put the segments together with the other streams, verify, publish, write the record, clear up."""
    bench.forget()
    scan = json.loads(bench.store.tasks(job.id, "scan")[0].result)
    segments = bench.store.tasks(job.id)
    results = [json.loads(segment.result) for segment in segments]
    record, notes = Record(str(job.source), str(bench.store.out / job.output), config), Notes()
    for note in scan["notes"]:
        notes.warn(note["kind"], note["subject"], note["text"], times=note["count"], quiet=note["quiet"])
    put_together(record, notes, ((s.continues, r["page"]) for s, r in zip(segments, results, strict=True)))
    film = _Film(bench, job, task, config, segments, results, record, notes, sha256_of(job.source, bench.alive))
    _intact(film)
    _publish(film, scan)
    film.job = bench.store.job(job.id)
    _finish(film, scan)


def _finish(film: _Film, scan: dict[str, Any]) -> None:
    """The record, the report's pictures, the store; the segments go."""
    bench, job, record, target = film.bench, film.job, film.record, film.target
    record.input |= {"size": job.source.stat().st_size, **scan["input"]}
    record.output |= {"size": target.stat().st_size}
    code, reason = (6, scan["partial"]) if scan["partial"] else (0, "")
    provenance = record.as_dict(film.notes, None) | {
        "exit_code": code,
        "error": None if not code else {"kind": "PartialInput", "what": reason, "line": f"{job.source}: {reason}"},
        "source_sha256": film.source_hash,
        "target_sha256": job.sha256,
        "job": job.key,
        "segments": [[s.begin, s.end] for s in film.segments],
    }
    write_json(target.with_name(target.name + ".json"), provenance)
    summary = {"frames": record.frames_out, "changed": record.frames_changed, "faces": record.faces,
               "tracks": len(record.tracks), "held_back": provenance["gate"]["faces_held_back"],
               "notes": len(provenance["notes"]), "source_sha256": film.source_hash, "size": target.stat().st_size,
               "mtime": target.stat().st_mtime_ns, "masks": record.masks,
               "seconds": round(sum(s["wall"] for s in record.seconds.values()), 3)}  # fmt: skip
    pictures = [(r["preview"], film.path(s)) for s, r in zip(film.segments, film.results, strict=True)]
    keep_best(bench.store, job.id, pictures)
    bench.store.published(film.task, bench.owner, json.dumps(summary), code, reason)
    shutil.rmtree(bench.folder(job.id), ignore_errors=True)


def _intact(film: _Film) -> None:
    """Segments that are gone or changed are done again. Raises Lost."""
    alive = film.bench.alive

    def good(path: Path, sha256: str) -> bool:
        return path.is_file() and sha256_of(path, alive) == sha256

    broken = [
        segment.number
        for segment, result in zip(film.segments, film.results, strict=True)
        if not good(film.path(segment), result["sha256"])
        or (result["masks"] and not good(film.path(segment).with_suffix(MASKS), result["masks"]["sha256"]))
    ]
    if broken:
        film.bench.store.redo(film.task, film.bench.owner, broken)
        raise Lost


def _publish(film: _Film, scan: dict[str, Any]) -> None:
    """Join the packets of all segments, with those of the other streams, and of the masks beside them."""
    bench, job, config, record, target = film.bench, film.job, film.config, film.record, film.target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(str(target.parent), f"cannot be made: {error.strerror}") from error
    ours = bool(job.sha256) and target.is_file() and sha256_of(target, bench.alive) == job.sha256  # killed just after
    overwrite, pieces = ours or Spec.read(job.spec).overwrite, film.pieces()
    with opened(str(job.source), config, Notes()) as read, ExitStack() as stack:
        settings = encode_settings(config, _tags(film, read), piped=False, named=False)
        describe_input(record, read.read)
        base = read.finished.info.time_base
        times = [pts * base for piece in pieces for pts in piece.pts]

        def check(path: Path) -> None:
            if read.read.frames_in != scan["frames"]:
                what = f"gave {scan['frames']} frames at first and {read.read.frames_in} now"
                raise RunError(str(job.source), what, "see whether it has changed")
            see = _seen(film, read, sink, path)
            sums = check_film(path, times, read.read, sink.summary.streams, see)
            write_text(target.with_name(f"{target.name}.framemd5"), sums)
            bench.store.publishing(film.task, bench.owner, sha256_of(path, bench.alive))

        joined = join_sink(target, read.finished, settings, film.notes, pieces, check, overwrite=overwrite)
        sink = stack.enter_context(joined)
        masks = stack.enter_context(_mask_sink(film, read)) if film.masks is not None else None
        blank = no_mask(read.source.info.layout)
        for frame in read.source.frames():
            for out in read.through(frame):
                sink.write(out)
            if masks is not None:
                masks.write(mask_frame(frame, blank))  # the packets are those of the pieces
            bench.beat(frame.index + 1)
        for out in read.through(None):
            sink.write(out)
        if masks is not None:
            masks.finish()
        sink.finish()
        record.output = {key: value for key, value in asdict(sink.summary).items() if key != "target"}


def _mask_sink(film: _Film, read: OpenFilm) -> Any:
    assert film.masks is not None
    settings = mask_settings(film.config.settings.encoder_threads)
    return join_sink(
        film.masks, MaskFilm(read.source), settings, Notes(), film.mask_pieces(), lambda path: None, overwrite=True
    )


def _seen(film: _Film, read: OpenFilm, sink: Sink, path: Path) -> Callable[[Any], None]:
    """Who looks at every decoded picture of the output: a sign of life, and where nothing may have been lost on the
    way, whether it is the source's outside the masks. What the record says of them is known then."""
    alive, masks = film.bench.alive, film.masks
    if masks is None:
        return lambda picture: alive()
    layout = read.finished.info.layout
    exact = read.finished is read.source and keeps_all(sink.summary.encoder, sink.summary.pix_fmt, layout)
    sums = [one for result in film.results for one in result["masks"]["sums"]]
    times = [tuple(one) for result in film.results for one in result["masks"]["times"]]
    film.record.masks = published(masks, times, read.source.info.time_base, sums, DECODED if exact else FINISHED)
    if not exact:
        return lambda picture: alive()
    check = OutsideCheck(path, masks, layout, sums)

    def see(picture: Any) -> None:
        alive()
        check.see(picture)

    return see


def _tags(film: _Film, read: OpenFilm) -> dict[str, str]:
    from vidrestore.version import __version__

    weights = "+".join(sorted(film.record.weights.values())) or "none"
    said = (
        f"synthesised=faces; tool=vidrestore/{__version__}; chain={film.config.chain}; weights={weights}; "
        f"source_sha256={film.source_hash}; report={film.job.output.name}.json"
    )
    return {"VIDRESTORE": said, **comment(read.read.info.metadata, film.record.notice)}
