"""One segment of a film: restored, encoded by itself, checked."""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from vidrestore.batch.ledger import page_of
from vidrestore.batch.previews import Preview
from vidrestore.batch.reel import Reel
from vidrestore.batch.spec import Spec, remembers
from vidrestore.engine.clock import Clock
from vidrestore.engine.film import OpenFilm
from vidrestore.engine.flags import encode_settings
from vidrestore.engine.job import RESTORING
from vidrestore.engine.masks import Masks
from vidrestore.engine.record import Record
from vidrestore.errors import RunError
from vidrestore.media.masks import MaskFilm, mask_settings
from vidrestore.media.segments import Piece, check_piece, piece_sink, sha256_of
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidrestore.batch.bench import Bench
    from vidrestore.batch.store import Job, Task
    from vidrestore.config import RunConfig
    from vidrestore.engine.pipeline import State
    from vidrestore.types import Frame, Window

MASKS: Final = ".masks"  # behind the name of a segment


def restore(bench: Bench, job: Job, task: Task, config: RunConfig) -> None:
    """Restore and encode one segment."""
    folder, notes = bench.folder(job.id), Notes()
    folder.mkdir(exist_ok=True)
    record = Record(str(job.source), str(job.output), config)
    record.frames_out = task.begin
    target, path = bench.store.out / job.output, piece_path(folder, task)
    reel, clock, whole = bench.reel(job, config), Clock(), remembers(config)
    film = reel.film()
    frames = _frames(bench, job, task, config, reel, record, notes, clock)
    settings = encode_settings(config, {}, piped=False, named=True)
    pts: list[int] = []
    durations: list[int] = []
    next_track, preview = 0, Preview()
    with ExitStack() as stack:
        sink = stack.enter_context(piece_sink(path, target, film.finished, settings, Notes()))  # the join tells losses
        masks = stack.enter_context(_mask_piece(job, film, path, config)) if Spec.read(job.spec).masks else None

        def write(frame: Frame) -> None:
            pts.append(frame.pts)
            durations.append(frame.duration)
            with clock("encode"):
                sink.write(frame)

        for frame, window in frames:
            record.see(frame, window)
            preview.see(frame, window)
            if masks is not None:
                masks.see(frame, window)
            if window is not None and window.after is not None:
                next_track = window.after.tracks["next_id"]
            for out in film.through(frame):
                write(out)
            bench.beat(record.frames_out - task.begin)
        for out in film.through(None) if whole else ():
            write(out)
        sink.finish()
        if masks is not None:
            masks.sink.finish()
    record.seconds = clock.seconds()
    piece = Piece(path, pts, durations)
    check_piece(piece)
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
        "masks": None if masks is None else _told_masks(bench, masks, path),
    }
    bench.store.restored(task, bench.owner, json.dumps(found))


@contextmanager
def _mask_piece(job: Job, film: OpenFilm, path: Path, config: RunConfig) -> Iterator[Masks]:
    """Where the masks of a segment are written, beside it."""
    masked = MaskFilm(film.source)
    settings = mask_settings(config.settings.encoder_threads)
    with piece_sink(path.with_suffix(MASKS), job.output.with_name("masks.mkv"), masked, settings, Notes()) as sink:
        yield Masks(sink, str(job.source))


def _told_masks(bench: Bench, masks: Masks, path: Path) -> dict[str, Any]:
    """What the join needs to know of a segment's masks."""
    piece = Piece(path.with_suffix(MASKS), [pts for pts, _ in masks.times], [length for _, length in masks.times])
    check_piece(piece)
    return {"times": masks.times, "sums": masks.sums, "sha256": sha256_of(piece.path, bench.alive)}


def piece_path(folder: Path, task: Task) -> Path:
    return folder / f"{task.number:05}"


def _frames(
    bench: Bench, job: Job, task: Task, config: RunConfig, reel: Reel, record: Record, notes: Notes, clock: Clock
) -> Iterator[tuple[Frame, Window | None]]:
    """The finished frames of a segment."""
    if remembers(config):
        yield from RESTORING.frames(config, reel.film().source, record, notes, clock)
        return
    searched = config.step("detect").make().side > 0
    if not searched:
        for frame in _within(reel, task.begin, task.end):
            yield frame, None
        return
    from vidrestore.engine.fields import top_first
    from vidrestore.engine.pipeline import part, restored

    cuts = json.loads(bench.store.tasks(job.id, "scan")[0].result)["cuts"]
    number = bisect_right(cuts, task.begin) - 1
    stages = bench.models(config, record, Spec.read(job.spec).weights)
    stages = replace(stages, top_first=top_first(config, reel.film().source.info))
    shot_end = cuts[number + 1] if number + 1 < len(cuts) else None
    goes_on = any(t.number == task.number + 1 and t.continues for t in bench.store.tasks(job.id))
    if not task.continues and not goes_on:
        frames = _within(reel, task.begin, task.end)
        for frame, window in restored(frames, stages, notes, clock, frozenset(cuts)):
            yield frame, _numbered(window, number)
        return
    state = load_state(piece_path(bench.folder(job.id), task).with_suffix(".state")) if task.continues else None
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
