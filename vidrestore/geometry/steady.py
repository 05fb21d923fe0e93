"""One-euro smoothing of poses with bounded look-ahead and no lag.

G. Casiez, N. Roussel and D. Vogel, "1 Euro Filter", CHI 2012: a low-pass whose cut-off rises with speed. Run
forward over all the past and backward from ``lookahead`` frames ahead; the mean of both has no lag, because the
one trails by what the other leads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OneEuro:
    """min_cutoff: Hz at rest; beta: rise of the cut-off in Hz per (unit/s); speed_cutoff: Hz for the speed."""

    min_cutoff: float
    beta: float
    lookahead: int
    speed_cutoff: float = 1.0

    def smooth(self, x: Rows, t: Rows, n_now: int, state: list[list[float]] | None) -> tuple[Rows, list[list[float]]]:
        """Smooth the first ``n_now`` of x [m, d] at times t [m] in seconds (the rest is look-ahead).

        Gives [n_now, d] and the state after them (last time, value, speed) to pass to the next call.
        """
        forward, state = self._run(x[:n_now], t[:n_now], state)
        backward = np.stack([self._from_the_future(x, t, i) for i in range(n_now)])
        return (forward + backward) / 2, state

    def _from_the_future(self, x: Rows, t: Rows, i: int) -> Rows:
        ahead = slice(i, i + self.lookahead + 1)
        smoothed, _ = self._run(x[ahead][::-1], -t[ahead][::-1], None)
        last: Rows = smoothed[-1]
        return last

    def _run(self, x: Rows, t: Rows, state: list[list[float]] | None) -> tuple[Rows, list[list[float]]]:
        out = np.empty_like(x)
        if state is None:
            time, value, speed = t[0], x[0], np.zeros(x.shape[1])
        else:
            time, value, speed = state[0][0], np.array(state[1]), np.array(state[2])
        for i, (now, raw) in enumerate(zip(t, x, strict=True)):
            step = max(now - time, 0.0)
            if step > 0:
                speed = speed + _share(self.speed_cutoff, step) * ((raw - value) / step - speed)
                cutoff = self.min_cutoff + self.beta * np.abs(speed)
                value = value + _share(cutoff, step) * (raw - value)
            time = now
            out[i] = value
        return out, [[float(time)], value.tolist(), speed.tolist()]


def _share(cutoff: Rows | float, step: float) -> Rows:
    """Weight of the new sample: 1 / (1 + tau / T_e) with tau = 1 / (2 pi f)."""
    tau = 1 / (2 * np.pi * np.asarray(cutoff))
    weight: Rows = 1 / (1 + tau / step)
    return weight
