"""What a run will do and cost, without doing it: faces are looked for in pictures from all over the film, then the real
run is tried on two seconds of it, which also says what becomes of every stream."""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vidrestore.engine.analyse import look
from vidrestore.engine.film import opened
from vidrestore.engine.job import Job, run, target_of
from vidrestore.engine.pipeline import device_of
from vidrestore.engine.sampling import sampled
from vidrestore.errors import OutputError, UsageError
from vidrestore.media.publish import check_target
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidrestore.config import RunConfig
    from vidrestore.engine.job import Progress
    from vidrestore.engine.record import Record
    from vidrestore.media.probe import MediaInfo
    from vidrestore.types import Faces

PICTURES: Final = 24  # that are searched for faces
_TRIAL: Final = 48  # frames that are worked for real
_BEGINS: Final = 16  # ... of which the first are not timed: networks are loaded, windows fill


@dataclass(slots=True)
class Looked:
    """What was found in pictures from all over the film."""

    by: str  # the decode plugin that gave them
    pictures: int
    with_faces: int
    faces: float = 0.0  # a picture, on average
    width: float | None = None  # px in the film, median
    smallest: float | None = None
    largest: float | None = None


@dataclass(slots=True)
class Outlook:
    """What a run will do, and what it will cost: estimates."""

    source: str
    target: str
    refused: str  # why the target would be; empty where it would not
    chain: str
    device: str
    frames: int | None
    seconds: float | None  # of the film, as far as it is worked
    looked: Looked
    output: dict[str, Any] = field(default_factory=dict)  # container, encoder, pix_fmt, options, streams
    strength: float | None = None  # mean over the trial's faces, 0..1; None without faces
    held_back: int = 0  # frames of the trial's faces
    per_second: float | None = None  # frames
    takes: float | None = None  # seconds
    memory: int = 0  # bytes
    disk: int | None = None  # bytes
    free: int = 0  # bytes where the target goes
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def outlook(
    source: str, target: str | None, config: RunConfig, notes: Notes, tell: Callable[[Progress], None] | None = None
) -> Outlook:
    """Look at the film, try the run. Raises as a run does for all that it would refuse, but an output that exists."""
    if source == "-":
        raise UsageError("plan", "a pipe can be read once only", "name a file")
    with opened(source, config, Notes()) as film:
        info = film.source.info
        aim = target_of(Job(source, target, config), film.source)
    if aim is None:
        raise UsageError("plan", "a pipe has no room to be looked at", "name the output, or leave -o out")
    begin, end = _worked(info, config)
    times = [begin + (end - begin) * (i + 0.5) / PICTURES for i in range(PICTURES)] if end is not None else [begin]
    frames, by = sampled(info, config, times, notes)
    device = device_of(config.settings.device)
    detector = config.step("detect").make()
    detector.open(device)
    found = [faces for frame in frames for faces in look([frame], detector, device)]  # a batch would cost memory
    length = None if end is None else end - begin
    plan = Outlook(
        source, str(aim), _refused(aim, source), config.chain, str(device),
        None if length is None else max(1, round(length * float(info.rate))), length,
        _looked(by, found, [info.layout.width / f.layout.width for f in frames]),
    )  # fmt: skip
    plan.free = shutil.disk_usage(aim.absolute().parent if aim.parent.is_dir() else Path.cwd()).free
    _try(plan, Job(source, target, config), info, _busiest(times, found, begin), notes, tell)
    return plan


def _worked(info: MediaInfo, config: RunConfig) -> tuple[float, float | None]:
    """From where to where the film is worked, seconds from its beginning."""
    begin = config.settings.start or 0.0
    ends = [float(e) for e in (info.duration, config.settings.end) if e is not None]
    return begin, max(begin, min(ends)) if ends else None


def _refused(target: Path, source: str) -> str:
    try:
        check_target(target, source, overwrite=False)
    except OutputError as error:
        return error.what
    return ""


def _looked(by: str, found: list[Faces], enlarged: list[float]) -> Looked:
    widths = [float(w) * k for f, k in zip(found, enlarged, strict=True) for w in f.boxes[:, 2] - f.boxes[:, 0]]
    looked = Looked(by, len(found), sum(len(f) > 0 for f in found), len(widths) / max(1, len(found)))
    if widths:
        looked.width, looked.smallest, looked.largest = float(np.median(widths)), min(widths), max(widths)
    return looked


def _busiest(times: list[float], found: list[Faces], begin: float) -> float:
    """Where the trial begins: at the picture that has as many faces as the average of those that have some."""
    counts = np.array([len(f) for f in found])
    if not counts.any() or len(counts) != len(times):
        return times[len(times) // 2] if times else begin
    return times[int(np.abs(np.where(counts > 0, counts, np.inf) - counts[counts > 0].mean()).argmin())]


def _try(
    plan: Outlook, job: Job, info: MediaInfo, at: float, notes: Notes, tell: Callable[[Progress], None] | None
) -> None:
    """Work two seconds of the film into a folder that is thrown away."""
    lasts = _TRIAL / float(info.rate)
    begin, end = _worked(info, job.config)
    at = max(begin, at if end is None else min(at, end - lasts))
    last = at + lasts if end is None else min(at + lasts, end)
    part = {} if info.still else {"start": at, "end": last}
    settings = job.config.settings.model_copy(update={**part, "keep_going": True, "on_change": "scale"})
    clock: list[tuple[int, float]] = [(0, time.perf_counter())]

    def told(progress: Progress) -> None:
        clock.append((progress.frames, time.perf_counter()))
        if tell is not None:
            tell(progress)

    with tempfile.TemporaryDirectory(prefix="vidrestore-plan-") as folder:
        trial = replace(job, config=replace(job.config, settings=settings), folder=Path(folder))
        record = run(trial, notes, told)
        nbytes = Path(record.target).stat().st_size
    plan.output = {k: record.output[k] for k in ("container", "encoder", "pix_fmt", "options", "threads", "streams")}
    plan.device = record.device or plan.device
    strengths = record.strengths.as_dict()
    plan.strength = None if strengths is None else strengths["mean"]
    plan.held_back = sum(h.last_frame - h.first_frame + 1 for t in record.tracks.values() for h in t.held_back)
    plan.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    plan.warnings = [n.text for n in notes.all() if not n.quiet]
    _reckon(plan, record, clock, nbytes, last - at)


def _reckon(plan: Outlook, record: Record, clock: list[tuple[int, float]], nbytes: int, tried: float) -> None:
    """From the trial to the film: what a frame costs with as many faces as there are on average."""
    timed = clock[_BEGINS:] if len(clock) > 2 * _BEGINS else clock
    frames, seconds = timed[-1][0] - timed[0][0], timed[-1][1] - timed[0][1]
    if not frames:
        return
    a_frame = seconds / frames
    stages = {stage: spent["wall"] for stage, spent in record.seconds.items()}
    share = stages.get("restore", 0.0) / max(sum(stages.values()), 1e-9)
    here = record.faces / max(1, record.frames_out)
    a_frame *= 1 - share + share * (plan.looked.faces / here if here else 1.0)
    plan.per_second = 1 / max(a_frame, 1e-9)
    if plan.seconds is not None and plan.frames is not None:
        plan.takes = plan.frames * a_frame
        plan.disk = round(nbytes * plan.seconds / max(tried, 1e-9))
