"""The flow, read on one screen:

reader -> scenes -> detect -> track -> align -> assess -> restore (latents smoothed) -> blend -> composite -> writer

Three threads: read and analyse, restore on the device, composite and write (the caller's).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from vidrestore.engine.analyse import Analysis, detect, place
from vidrestore.engine.clock import Clock
from vidrestore.engine.composite import composited
from vidrestore.engine.fields import split
from vidrestore.engine.restore import Plugins, Restoration, dump, load
from vidrestore.engine.scenes import shots, windows
from vidrestore.engine.threads import in_thread
from vidrestore.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from vidrestore.engine.align import FFHQ
    from vidrestore.hooks import Detector, Tracker
    from vidrestore.notes import Notes
    from vidrestore.types import Frame, Scene, Window


@dataclass(frozen=True, slots=True)
class Stages:
    """Opened plugins and the numbers that decide how frames are grouped."""

    detector: Detector
    tracker: Tracker
    align: FFHQ
    restore: Plugins
    window: int = 16  # frames
    batch: int = 16  # faces
    prefetch: int = 128 << 20  # bytes between two threads
    torch_threads: int = 1
    top_first: bool | None = None  # of interlaced frames whose fields are worked on apart


@dataclass(frozen=True, slots=True)
class State:
    """All a shot's memory after some frame of it; plain data, so that another process can go on."""

    scene: Scene
    position: int  # pictures of the shot that are done: frames, or fields where these are worked on apart
    analysis: Analysis
    memory: dict[Any, Any]


def restored(
    frames: Iterable[Frame], stages: Stages, notes: Notes, clock: Clock, cuts: frozenset[int] | None = None
) -> Iterator[tuple[Frame, Window]]:
    """The finished frames of a film, in order, each with the window it belongs to."""
    device = stages.restore.device

    def analysed() -> Iterator[Window]:
        known = cuts if stages.detector.side else frozenset[int]()  # without faces nothing ends at a cut
        cut = windows(split(shots(clock_frames(frames, clock), known), stages.top_first), stages.window)
        found = detect(cut, stages.detector, device, clock)
        return place(found, stages.tracker, stages.align, stages.detector.every, notes, clock)

    def with_patches() -> Iterator[Window]:
        ready = in_thread(analysed, "analyse", stages.prefetch, stages.torch_threads)
        return Restoration(stages.restore, stages.batch, notes, clock).run(ready)

    done = in_thread(with_patches, "restore", stages.prefetch, stages.torch_threads)
    return composited(done, clock)


def restored_part(
    frames: Iterable[Frame], stages: Stages, notes: Notes, scene: Scene, stop: int | None, state: State | None
) -> tuple[list[Frame], State | None]:
    """The frames of one part of a shot, and the state after it, as `part` gives them."""
    done: list[Frame] = []
    working = part(frames, stages, notes, Clock(), scene, stop, state)
    while True:
        try:
            done.append(next(working)[0])
        except StopIteration as end:
            return done, end.value


def part(
    frames: Iterable[Frame],
    stages: Stages,
    notes: Notes,
    clock: Clock,
    scene: Scene,
    stop: int | None,
    state: State | None,
) -> Generator[tuple[Frame, Window], None, State | None]:
    """The finished frames of one part of a shot, each with its window; returns the state after it.

    frames: of this shot only, from the part's first on; beyond the part's end as many as look-ahead wants, or
    all to the shot's end. stop: position in the shot where the part ends, a multiple of the window; None: the
    shot's end. The result is the same as if the shot were worked at once.
    """
    begin = state.position if state else 0
    flagged = split(((f, i == 0) for i, f in enumerate(frames)), stages.top_first)
    cut = (_moved(w, scene, begin) for w in windows(flagged, stages.window))
    end = None if stop is None else stop if stages.top_first is None else 2 * stop
    device, resume = stages.restore.device, state.analysis if state else None
    found = detect(cut, stages.detector, device, clock, reached=resume.tracks["reached"] if resume else 0)
    placed = place(found, stages.tracker, stages.align, stages.detector.every, notes, clock, resume)
    memory = load(state.memory, device) if state else None
    stage = Restoration(stages.restore, stages.batch, notes, clock, memory)
    for window in stage.run(placed):
        ends = end is not None and window.stop >= end
        after = State(scene, window.stop, window.after, dump(stage.memory)) if ends else None
        yield from composited([window], clock)
        if ends:
            return after
    return None


def _moved(window: Window, scene: Scene, begin: int) -> Window:
    return replace(window, scene=scene, start=window.start + begin)


def clock_frames(frames: Iterable[Frame], clock: Clock) -> Iterator[Frame]:
    """The frames, with the time to decode each counted."""
    iterator = iter(frames)
    while True:
        with clock("decode"):
            frame = next(iterator, None)
        if frame is None:
            return
        yield frame


def device_of(name: str) -> torch.device:
    """The device of a setting; "auto" takes a GPU where there is one.

    Raises:
        ResourceError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ResourceError("--device", f"no device '{name}' here", "use --device auto or cpu") from error
    return torch.device(name)
