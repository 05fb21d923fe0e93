"""Smoothing of poses with bounded look-ahead and no lag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float64]

GUESS: Final = 3.0  # how much noisier a pose is that was filled in between sightings


@dataclass(frozen=True, slots=True)
class FixedLag:
    """A point that moves evenly but for random pushes, seen through noise: Kalman's filter forward, then back from
    ``lookahead`` frames ahead. There is no lag.

    F = [[1, T], [0, 1]],  Q = push [[T^3/3, T^2/2], [T^2/2, T]],  R = noise^2;  G_j = P_j F' (P-_(j+1))^-1,
    s_j = m_j + G_j (s_(j+1) - m-_(j+1)): H. E. Rauch, F. Tung, C. T. Striebel, AIAA Journal 3(8), 1965.

    push: units^2 / s^3; noise: standard deviation of a sighting, units.
    """

    push: float
    noise: float
    lookahead: int

    def smooth(
        self, x: Rows, t: Rows, seen: NDArray[np.bool_], n_now: int, state: list[Any] | None
    ) -> tuple[Rows, list[Any]]:
        """Smooth the first ``n_now`` of x [m, d] at times t [m] in seconds (the rest is look-ahead); ``seen`` [m] is
        False where x was filled in between sightings.

        Gives [n_now, d] and the state after them (last time, mean, covariance) to pass to the next call.
        """
        if state is None:
            time, mean, cov = float(t[0]), np.stack([x[0], np.zeros_like(x[0])]), np.diag([self.noise**2, 1.0])
        else:
            time, mean, cov = state[0], np.array(state[1]), np.array(state[2])
        path: list[tuple[Rows, Rows, Rows, Rows, Rows]] = []
        for now, value, here in zip(t, x, seen, strict=True):
            step = max(float(now) - time, 0.0)
            F = np.array([[1.0, step], [0.0, 1.0]])
            Q = self.push * np.array([[step**3 / 3, step**2 / 2], [step**2 / 2, step]])
            prior, prior_cov = F @ mean, F @ cov @ F.T + Q
            gain = prior_cov[:, 0] / (prior_cov[0, 0] + (self.noise * (1 if here else GUESS)) ** 2)
            mean, cov = prior + np.outer(gain, value - prior[0]), prior_cov - np.outer(gain, prior_cov[0])
            time = float(now)
            path.append((mean, cov, prior, prior_cov, F))
        after = [float(t[n_now - 1]), path[n_now - 1][0].tolist(), path[n_now - 1][1].tolist()]
        m, P, m_, P_, Fs = (np.stack(part) for part in zip(*path, strict=True))
        return self._back(m, P, m_, P_, Fs, n_now), after

    def _back(self, m: Rows, P: Rows, m_: Rows, P_: Rows, F: Rows, n_now: int) -> Rows:
        """Each of the first frames as seen from ``lookahead`` frames ahead, or from the last frame."""
        last = len(m) - 1
        eye = np.eye(2) * 1e-12
        gains = P[:-1] @ F[1:].transpose(0, 2, 1) @ np.linalg.inv(P_[1:] + eye)  # G_j of every frame but the last
        frames = np.arange(n_now)
        s = m[np.minimum(frames + self.lookahead, last)]
        for ahead in range(self.lookahead - 1, -1, -1):
            rows = np.flatnonzero(frames + ahead < last)
            j = rows + ahead
            s[rows] = m[j] + gains[j] @ (s[rows] - m_[j + 1])
        smoothed: Rows = s[:, 0]
        return smoothed
