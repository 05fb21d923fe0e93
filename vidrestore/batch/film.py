"""The work on one film: scan -> restore every segment -> join.

Each step is a function of a job and what the store knows of it; all it leaves lies in the job's folder of the store
until the output is published.
"""

from __future__ import annotations

import json
import os
import shutil
from bisect import bisect_right
from dataclasses import asdict, dataclass, field
from itertools import pairwise, takewhile
from socket import gethostname
from typing import TYPE_CHECKING, Any

from vidrestore.batch.ledger import page_of, put_together
from vidrestore.batch.previews import Preview, keep_best
from vidrestore.batch.reel import Reel
from vidrestore.batch.spec import Spec
from vidrestore.batch.store import Lost, Segment
from vidrestore.engine.clock import Clock
from vidrestore.engine.job import RESTORING, OpenFilm, describe_input, encode_settings, opened, stages_of
from vidrestore.engine.record import Record, write_json, write_text
from vidrestore.errors import InputMediaError, OutputError, ResourceError, RunError
from vidrestore.media.segments import Piece, check_film, check_piece, join_sink, piece_sink, sha256_of
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from vidrestore.batch.store import Desk, Job, Task
    from vidrestore.config import RunConfig
    from vidrestore.engine.pipeline import Stages, State
    from vidrestore.types import Frame, Window


@dataclass(slots=True)
class Bench:
    """What a worker keeps between tasks: the store, its name there, models that are loaded, a film that is open."""

    store: Desk
    owner: str
    beat: Callable[[int], None]  # called with the frames that are done
    device: str | None = None  # instead of the spec's "auto"
    stages: dict[str, tuple[Stages, Record]] = field(default_factory=dict)
    reels: dict[int, Reel] = field(default_factory=dict)

    def alive(self) -> None:
        """Something goes on that counts no frames."""
        self.beat(0)

    def folder(self, job: int) -> Path:
        return self.store.folder / str(job)

    def reel(self, job: Job, config: RunConfig) -> Reel:
        """The job's film, open where the last segment ended."""
        if job.id not in self.reels:
            self.forget()
            self.reels[job.id] = Reel(str(job.source), config)
        return self.reels[job.id]

    def models(self, config: RunConfig, record: Record, weights: Mapping[str, str]) -> Stages:
        """All plugins, opened once. Raises ResourceError where their weights are not those that were asked for."""
        key = config.chain + repr(config.settings)
        if key not in self.stages:
            self.stages.clear()  # one model a device
            self.stages[key] = (stages_of(config, record), record)
        stages, first = self.stages[key]
        record.device, record.torch_threads, record.weights = first.device, first.torch_threads, first.weights
        other = next((name for name, found in record.weights.items() if weights.get(name) != found), None)
        if other is not None:
            what = f"the weights '{other}' on {gethostname()} are not those that the batch was begun with"
            raise ResourceError("batch", what, "vidrestore weights list shows what is there")
        return stages

    def forget(self) -> None:
        """Close the open film."""
        for reel in self.reels.values():
            reel.close()
        self.reels.clear()


def work(bench: Bench, task: Task) -> None:
    """Do one task of a film. Raises VidrestoreError; Lost where the task has become another's."""
    job = bench.store.job(task.job)
    config = Spec.read(job.spec).config()
    if bench.device is not None and config.settings.device == "auto":
        config = _on(config, bench.device)
    try:
        {"scan": _scan, "restore": _restore, "join": _join}[task.kind](bench, job, task, config)
    except BaseException:
        bench.forget()
        raise


def _on(config: RunConfig, device: str) -> RunConfig:
    from dataclasses import replace

    return replace(config, settings=config.settings.model_copy(update={"device": device}))


# -- scan --------------------------------------------------------------------------------------------------------


def _scan(bench: Bench, job: Job, task: Task, config: RunConfig) -> None:
    """Read the film once: its length, its cuts, what is wrong with it."""
    from vidrestore.engine.scenes import shots, window_length

    notes, spec = Notes(), Spec.read(job.spec)
    shutil.rmtree(bench.folder(job.id), ignore_errors=True)
    searched = config.step("detect").make().side > 0
    filtered = bool(config.before or config.after)
    with opened(str(job.source), config, notes) as film:
        if film.read.info.still:
            raise InputMediaError(str(job.source), "is a picture, not a film", f"vidrestore {job.source}")
        frames = _told(film, bench)
        known = None if searched and not filtered else frozenset[int]()
        begins, count, nbytes = [], 0, 1
        for frame, cut in shots(frames, known):
            begins += [frame.index] if cut else []
            count, nbytes = frame.index + 1, max(nbytes, frame.nbytes)
        if not count:
            raise InputMediaError(str(job.source), "no frames")
        partial = "" if film.read.failure is None else film.read.failure.what
        counts = {
            "frames_in": film.read.frames_in,
            "corrupt_frames": film.read.corrupt_frames,
            "bad_packets": film.read.bad_packets,
            "ts_fixed": film.read.ts_fixed,
        }
    ends = [*begins[1:], count]
    if filtered:  # a filter remembers frames: the film is one segment
        segments = [Segment(0, count, False)]
    elif searched:
        segments = cut_up(
            list(zip(begins, ends, strict=True)), spec.segment, window_length(config.settings.window, nbytes)
        )
    else:
        segments = [Segment(i, min(i + spec.segment, count), False) for i in range(0, count, spec.segment)]
    found = {
        "frames": count,
        "cuts": begins,
        "partial": partial,
        "input": counts,
        "notes": [asdict(n) for n in notes.all()],
    }
    bench.store.planned(task, bench.owner, segments, json.dumps(found))


def _told(film: OpenFilm, bench: Bench) -> Iterator[Frame]:
    for frame in film.read.frames():
        film.read.copied.take()
        bench.beat(frame.index + 1)
        yield frame


def cut_up(shots: Sequence[tuple[int, int]], length: int, window: int) -> list[Segment]:
    """Shots, each from a frame to the frame after its last, as segments of about ``length`` frames: short shots
    together, long ones in parts that are multiples of the window."""
    part = -(-length // window) * window
    found: list[Segment] = []
    begun: int | None = None
    for begin, end in shots:
        long = end - begin >= 2 * part
        if begun is not None and (long or end - begun > 2 * length):
            found.append(Segment(begun, begin, False))
            begun = None
        if long:
            marks = [*range(begin, end - part + 1, part), end]
            found += [Segment(a, b, a > begin) for a, b in pairwise(marks)]
            continue
        begun = begin if begun is None else begun
        if end - begun >= length:
            found.append(Segment(begun, end, False))
            begun = None
    if begun is not None:
        found.append(Segment(begun, shots[-1][1], False))
    return found


# -- restore -----------------------------------------------------------------------------------------------------


def _restore(bench: Bench, job: Job, task: Task, config: RunConfig) -> None:
    """Restore and encode one segment."""
    folder, notes = bench.folder(job.id), Notes()
    folder.mkdir(exist_ok=True)
    record = Record(str(job.source), str(job.output), config)
    record.frames_out = task.begin
    target, path = bench.store.out / job.output, _piece_path(folder, task)
    reel, clock = bench.reel(job, config), Clock()
    film = reel.film()
    frames = _frames(bench, job, task, config, reel, record, notes, clock)
    settings = encode_settings(config, {}, piped=False, named=True)
    pts: list[int] = []
    durations: list[int] = []
    next_track, preview = 0, Preview()
    with piece_sink(path, target, film.finished, settings, Notes()) as sink:  # the join says what is lost

        def write(frame: Frame) -> None:
            pts.append(frame.pts)
            durations.append(frame.duration)
            with clock("encode"):
                sink.write(frame)

        for frame, window in frames:
            record.see(frame, window)
            preview.see(frame, window)
            if window is not None and window.after is not None:
                next_track = window.after.tracks["next_id"]
            for out in film.through(frame):
                write(out)
            bench.beat(record.frames_out - task.begin)
        for out in film.through(None):
            write(out)
        sink.finish()
    record.seconds = clock.seconds()
    piece = Piece(path, pts, durations)
    check_piece(piece)
    whole = config.before or config.after
    if not whole and len(pts) != task.end - task.begin:
        raise RunError(str(job.source), f"gave {len(pts)} frames where it had {task.end - task.begin}")
    if whole:
        bench.forget()  # its filters are used up
    page = page_of(record, notes, task.begin, next_track)
    preview.write(path)
    found = {
        "preview": preview.score,
        "pts": pts,
        "durations": durations,
        "sha256": sha256_of(path, bench.alive),
        "page": page,
    }
    bench.store.restored(task, bench.owner, json.dumps(found))


def _piece_path(folder: Path, task: Task) -> Path:
    return folder / f"{task.number:05}"


def _frames(
    bench: Bench, job: Job, task: Task, config: RunConfig, reel: Reel, record: Record, notes: Notes, clock: Clock
) -> Iterator[tuple[Frame, Window | None]]:
    """The finished frames of a segment."""
    if config.before or config.after:
        yield from RESTORING.frames(config, reel.film().source, record, notes, clock)
        return
    searched = config.step("detect").make().side > 0
    if not searched:
        for frame in _within(reel, task.begin, task.end):
            yield frame, None
        return
    from vidrestore.engine.pipeline import part, restored

    cuts = json.loads(bench.store.tasks(job.id, "scan")[0].result)["cuts"]
    number = bisect_right(cuts, task.begin) - 1
    stages = bench.models(config, record, Spec.read(job.spec).weights)
    shot_end = cuts[number + 1] if number + 1 < len(cuts) else None
    goes_on = any(t.number == task.number + 1 and t.continues for t in bench.store.tasks(job.id))
    if not task.continues and not goes_on:
        frames = _within(reel, task.begin, task.end)
        for frame, window in restored(frames, stages, notes, clock, frozenset(cuts)):
            yield frame, _numbered(window, number)
        return
    state = load_state(_piece_path(bench.folder(job.id), task).with_suffix(".state")) if task.continues else None
    stop = task.end - cuts[number] if goes_on else None
    rest = reel.frames(task.begin, task.end)
    shot = rest if shot_end is None else takewhile(lambda frame: frame.index < shot_end, rest)
    scene, shot = _scene(state, number, shot)
    after = yield from part(shot, stages, notes, clock, scene, stop, state)
    if after is not None:
        save_state(bench.folder(job.id) / f"{task.number + 1:05}.state", after)


def _within(reel: Reel, begin: int, end: int) -> Iterator[Frame]:
    return takewhile(lambda frame: frame.index < end, reel.frames(begin, end))


def _scene(state: State | None, number: int, frames: Iterator[Frame]) -> Any:
    """The shot of a part, and its frames."""
    from itertools import chain

    from vidrestore.types import Scene

    if state is not None:
        return state.scene, frames
    first = next(frames)
    return Scene(number, first.pts, first.index), chain([first], frames)


def _numbered(window: Window, first: int) -> Window:
    """The window with its shot counted through the film."""
    from dataclasses import replace

    return replace(window, scene=replace(window.scene, number=window.scene.number + first))


def save_state(path: Path, state: State) -> None:
    """Write what a shot remembers after a part, whole or not at all."""
    import torch

    analysis = {"tracks": state.analysis.tracks, "tracker": state.analysis.tracker, "poses": state.analysis.poses}
    scene = [state.scene.number, state.scene.pts, state.scene.index]
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        torch.save({"scene": scene, "position": state.position, "analysis": analysis, "memory": state.memory}, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def load_state(path: Path) -> State:
    """What `save_state` wrote; plain data, nothing in it can run code. Raises RunError (6)."""
    import torch

    from vidrestore.engine.analyse import Analysis
    from vidrestore.engine.pipeline import State
    from vidrestore.types import Scene

    try:
        found = torch.load(path, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise RunError(str(path), f"the state of the part before cannot be read: {error}") from error
    return State(Scene(*found["scene"]), found["position"], Analysis(**found["analysis"]), found["memory"])


# -- join --------------------------------------------------------------------------------------------------------


def _join(bench: Bench, job: Job, task: Task, config: RunConfig) -> None:
    """Put the segments together with the other streams, verify, publish, write the record, clear up."""
    bench.forget()
    folder, target = bench.folder(job.id), bench.store.out / job.output
    scan = json.loads(bench.store.tasks(job.id, "scan")[0].result)
    segments = bench.store.tasks(job.id)
    results = [json.loads(segment.result) for segment in segments]
    source_hash = sha256_of(job.source, bench.alive)
    record, notes = Record(str(job.source), str(target), config), Notes()
    for note in scan["notes"]:
        notes.warn(note["kind"], note["subject"], note["text"], times=note["count"], quiet=note["quiet"])
    put_together(record, notes, ((s.continues, r["page"]) for s, r in zip(segments, results, strict=True)))
    if not (
        job.sha256 and target.is_file() and sha256_of(target, bench.alive) == job.sha256
    ):  # else killed just after it
        pieces = [
            Piece(_piece_path(folder, s), r["pts"], r["durations"]) for s, r in zip(segments, results, strict=True)
        ]
        _intact(bench, task, segments, pieces, results)
        _publish(bench, job, task, config, record, notes, pieces, scan, source_hash)
    job = bench.store.job(job.id)
    _describe(record, scan, job, target)
    code, reason = (6, scan["partial"]) if scan["partial"] else (0, "")
    provenance = record.as_dict(notes, None) | {
        "exit_code": code,
        "error": None if not code else {"kind": "PartialInput", "what": reason, "line": f"{job.source}: {reason}"},
        "source_sha256": source_hash,
        "target_sha256": job.sha256,
        "job": job.key,
        "segments": [[s.begin, s.end] for s in segments],
    }
    write_json(target.with_name(target.name + ".json"), provenance)
    summary = {"frames": record.frames_out, "changed": record.frames_changed, "faces": record.faces,
               "tracks": len(record.tracks), "held_back": provenance["gate"]["faces_held_back"],
               "notes": len(provenance["notes"]), "source_sha256": source_hash, "size": target.stat().st_size,
               "mtime": target.stat().st_mtime_ns,
               "seconds": round(sum(s["wall"] for s in record.seconds.values()), 3)}  # fmt: skip
    keep_best(
        bench.store, job.id, [(r["preview"], _piece_path(folder, s)) for s, r in zip(segments, results, strict=True)]
    )
    bench.store.published(task, bench.owner, json.dumps(summary), code, reason)
    shutil.rmtree(folder, ignore_errors=True)


def _intact(
    bench: Bench, task: Task, segments: Sequence[Task], pieces: Sequence[Piece], results: Sequence[Any]
) -> None:
    """Segments that are gone or changed are done again. Raises Lost."""
    broken = [
        segment.number
        for segment, piece, result in zip(segments, pieces, results, strict=True)
        if not piece.path.is_file() or sha256_of(piece.path, bench.alive) != result["sha256"]
    ]
    if broken:
        bench.store.redo(task, bench.owner, broken)
        raise Lost


def _publish(
    bench: Bench, job: Job, task: Task, config: RunConfig, record: Record, notes: Notes, pieces: Sequence[Piece],
    scan: dict[str, Any], source_hash: str,
) -> None:  # fmt: skip
    target, overwrite = bench.store.out / job.output, Spec.read(job.spec).overwrite
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(str(target.parent), f"cannot be made: {error.strerror}") from error
    tags = {"VIDRESTORE": _tag(record, job, source_hash)}
    settings = encode_settings(config, tags, piped=False, named=False)
    with opened(str(job.source), config, Notes()) as film:
        describe_input(record, film.read)
        base = film.finished.info.time_base
        times = [pts * base for piece in pieces for pts in piece.pts]

        def check(path: Path) -> None:
            if film.read.frames_in != scan["frames"]:
                what = f"gave {scan['frames']} frames at first and {film.read.frames_in} now"
                raise RunError(str(job.source), what, "see whether it has changed")
            sums = check_film(path, times, film.read, sink.summary.streams, bench.alive)
            write_text(target.with_name(f"{target.name}.framemd5"), sums)
            bench.store.publishing(task, bench.owner, sha256_of(path, bench.alive))

        with join_sink(target, film.finished, settings, notes, pieces, check, overwrite=overwrite) as sink:
            for frame in film.source.frames():
                for out in film.through(frame):
                    sink.write(out)
                bench.beat(frame.index + 1)
            for out in film.through(None):
                sink.write(out)
            sink.finish()
        record.output = {key: value for key, value in asdict(sink.summary).items() if key != "target"}


def _tag(record: Record, job: Job, source_hash: str) -> str:
    from vidrestore.version import __version__

    weights = "+".join(sorted(record.weights.values())) or "none"
    return (
        f"synthesised=faces; tool=vidrestore/{__version__}; chain={record.config.chain}; weights={weights}; "
        f"source_sha256={source_hash}; report={job.output.name}.json"
    )


def _describe(record: Record, scan: dict[str, Any], job: Job, target: Path) -> None:
    record.input |= {"size": job.source.stat().st_size, **scan["input"]}
    record.output |= {"size": target.stat().st_size}
