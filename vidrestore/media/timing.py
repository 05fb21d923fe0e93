"""Time stamps: repaired so that every frame has one, later than the frame before, and streams keep step.

What breaks them: containers without true presentation times (AVI, RealMedia, raw streams), recordings glued
together, clocks that wrap. The decoder's order is trusted, its numbers are not.
"""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from vidrestore.errors import RunError

if TYPE_CHECKING:
    import av

    from vidrestore.notes import Notes

JUMP = Fraction(1)  # seconds that a stream's clock must fall back to count as a new recording
REORDER = Fraction(10)  # seconds between streams after which they are on different clocks


class Clock:
    """Gives every decoded frame a time stamp in ticks of ``time_base``, strictly rising.

    One frame is held back: that a stamp was too high shows only in the frame after it.
    """

    def __init__(
        self, time_base: Fraction, rate: Fraction, notes: Notes, subject: str, *, regular: bool, strict: bool = False
    ) -> None:
        self.time_base = time_base
        self.fixed = 0  # stamps that were changed
        self._period = max(1, round(1 / (rate * time_base)))
        self._exact = 1 / (rate * time_base)
        self._notes, self._subject = notes, subject
        self._regular = regular  # number the frames by rate, whatever they say
        self._strict = strict
        self._by_dts = False  # presentation stamps proved false, decoding stamps are used
        self._held: av.VideoFrame | None = None
        self._last: int | None = None
        self._steps: deque[int] = deque(maxlen=15)
        self._offset = 0
        self._count = 0

    def push(self, picture: av.VideoFrame) -> av.VideoFrame | None:
        """Take the next decoded picture; give the one before it, stamped."""
        ready = self._held
        self._held = picture
        if ready is not None:
            self._stamp(ready, picture)
        return ready

    def flush(self) -> av.VideoFrame | None:
        """The last picture, stamped."""
        ready, self._held = self._held, None
        if ready is not None:
            self._stamp(ready, None)
        return ready

    def _stamp(self, picture: av.VideoFrame, after: av.VideoFrame | None) -> None:
        pts = self._wanted(picture, after)
        if self._last is not None and pts <= self._last:
            pts = self._repaired(pts)
        if self._last is not None:
            self._steps.append(pts - self._last)
        self._last = pts
        self._count += 1
        picture.pts = pts
        picture.time_base = self.time_base
        if not picture.duration or self._regular:
            picture.duration = self._duration(pts, after)

    def _wanted(self, picture: av.VideoFrame, after: av.VideoFrame | None) -> int:
        """What the file says, as far as it can be believed."""
        if self._regular:
            return round(self._count * self._exact)
        pts, dts = picture.pts, picture.dts
        if pts is None and dts is not None:
            pts = dts
        if not self._by_dts and pts is not None and self._steps_back(picture, after):
            self._by_dts = True
            self._notes.warn("pts_repaired", self._subject, "presentation times step back; decoding times are used")
        if self._by_dts and dts is not None:
            self.fixed += dts != pts
            return dts + self._offset
        if pts is None:
            return round(self._count * self._exact) if self._last is None else self._last + self._step()
        return pts + self._offset

    def _steps_back(self, picture: av.VideoFrame, after: av.VideoFrame | None) -> bool:
        """Whether this stamp is later than the next one while decoding stamps rise as they should."""
        if after is None or after.pts is None or picture.pts is None or after.pts >= picture.pts:
            return False
        if picture.dts is None or after.dts is None or after.dts <= picture.dts:
            return False
        return self._last is None or picture.dts + self._offset > self._last

    def _repaired(self, pts: int) -> int:
        """A stamp not later than the one before: one tick on if equal, else the clock goes on from here."""
        assert self._last is not None
        if self._strict:
            at = f"{float(self._last * self.time_base):.2f} s"
            raise RunError(self._subject, f"repeated or falling time stamps at {at}", "run without --strict")
        self.fixed += 1
        self._notes.warn("pts_repaired", self._subject, "repeated or falling time stamps repaired")
        if pts == self._last or self._by_dts:
            return self._last + 1
        new = self._last + self._step()
        self._offset += new - pts
        return new

    def _step(self) -> int:
        steps = sorted(self._steps)
        return steps[len(steps) // 2] if steps else self._period

    def _duration(self, pts: int, after: av.VideoFrame | None) -> int:
        if not self._regular and after is not None and after.pts is not None and not self._by_dts:
            gap = after.pts + self._offset - pts
            if 0 < gap * self.time_base <= REORDER:
                return gap
        return self._step()


class Splices:
    """Joins recordings that were glued together: when the clock falls back, all streams are moved on alike.

    Offsets are seconds, added to every packet in place. A stream whose packets still come from the older
    recording keeps the older offset until it falls back itself.
    """

    def __init__(self, notes: Notes, subject: str) -> None:
        self._notes, self._subject = notes, subject
        self._offsets = [Fraction(0)]
        self._current: dict[int, int] = {}  # stream -> index of its offset
        self._ends: dict[int, Fraction] = {}  # stream -> seconds at which its last packet ended

    def correct(self, packet: Any, *, steady: bool) -> None:
        """Move one demuxed packet onto the common clock. ``steady``: its stream is sound or film, whose
        packets follow each other without holes; captions and data follow the others."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            return
        index, tb = packet.stream_index, packet.time_base
        time = stamp * tb
        end = self._ends.get(index)
        if end is None or not steady:
            self._current[index] = self._nearest(time)
        elif time + self._offsets[self._current[index]] < end - JUMP:
            self._current[index] = self._join(time, end)
        offset = self._offsets[self._current[index]]
        if steady:
            self._ends[index] = time + offset + (packet.duration or 0) * tb
        if offset:
            ticks = round(offset / tb)
            packet.dts = None if packet.dts is None else packet.dts + ticks
            packet.pts = None if packet.pts is None else packet.pts + ticks

    def _join(self, time: Fraction, end: Fraction) -> int:
        """Index of the offset that continues from ``end``: one found by another stream, or a new one."""
        for i in range(len(self._offsets) - 1, -1, -1):
            if abs(time + self._offsets[i] - end) <= JUMP:
                return i
        self._offsets.append(end - time)
        self._notes.warn("clock_joined", self._subject, f"the clock falls back at {float(end):.2f} s; it is carried on")
        return len(self._offsets) - 1

    def _nearest(self, time: Fraction) -> int:
        """The offset that brings a packet nearest to the other streams."""
        others = self._ends.values()
        if len(self._offsets) == 1 or not others:
            return 0
        now = max(others)
        return min(range(len(self._offsets)), key=lambda i: abs(time + self._offsets[i] - now))
