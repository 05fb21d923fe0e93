"""Numbers of many frames, kept as mean, spread and a curve: memory does not grow with the film."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(slots=True)
class Moments:
    """Count, mean and standard deviation of numbers that come one by one (B. P. Welford, Technometrics 4(3), 1962)."""

    count: int = 0
    mean: float = 0.0
    _squares: float = 0.0  # of the distances from the mean

    def add(self, value: float) -> None:
        """Enter a number; one that is not finite is left out."""
        if not math.isfinite(value):
            return
        self.count += 1
        away = value - self.mean
        self.mean += away / self.count
        self._squares += away * (value - self.mean)

    @property
    def std(self) -> float:
        """Of the numbers themselves, not an estimate for a larger set; 0 for one."""
        return math.sqrt(self._squares / self.count) if self.count else 0.0


@dataclass(slots=True)
class Series:
    """Moments of a film and its curve over time: means of equal spans of frames, at most ``most`` of them."""

    most: int = 240
    moments: Moments = field(default_factory=Moments)
    _span: int = 1  # frames
    _bins: list[tuple[int, float, float]] = field(default_factory=list)  # count, sum of seconds, sum of values

    def add(self, frame: int, seconds: float, value: float) -> None:
        """Enter a number of one frame, counted from 0; several of the same frame are averaged."""
        if not math.isfinite(value):
            return
        self.moments.add(value)
        while frame // self._span >= self.most:
            self._halve()
        at = frame // self._span
        self._bins += [(0, 0.0, 0.0)] * (at + 1 - len(self._bins))
        count, time, total = self._bins[at]
        self._bins[at] = (count + 1, time + seconds, total + value)

    def curve(self) -> list[tuple[float, float]]:
        """Seconds and means, spans without a number left out."""
        return [(time / count, total / count) for count, time, total in self._bins if count]

    def _halve(self) -> None:
        self._span *= 2
        pairs = zip(self._bins[::2], [*self._bins[1::2], (0, 0.0, 0.0)], strict=False)
        self._bins = [(a[0] + b[0], a[1] + b[1], a[2] + b[2]) for a, b in pairs]


@dataclass(slots=True)
class Spread(Generic[T]):
    """A few of many things, at even distances, however many come: when there are too many, every second one goes."""

    most: int
    items: list[T] = field(default_factory=list)
    _step: int = 1
    _seen: int = 0

    def offer(self, make: Callable[[], T]) -> None:
        """The next thing; it is made only where its turn has come."""
        self._seen += 1
        if self._seen % self._step == 0:
            self.items.append(make())
        if len(self.items) > self.most:
            self.items, self._step = self.items[1::2], 2 * self._step
