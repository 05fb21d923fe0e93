"""strength=auto: how much of a face's change goes into the picture, from how damaged the face is.

Each measure of damage has a ramp: nothing up to what good footage has, all from where damage is plain to see,
a smooth step between. The strongest of the three counts: a sharp face full of noise wants restoring as much as
a clean one that was enlarged. At exactly 0 not a bit of the picture changes.

The damage is averaged over the track's past half second or so before it is looked up. Footage is damaged for
seconds on end, while single frames differ by what their measures err and by a head that moves fast: the average
does not pump with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidrestore.engine.memory import Layer
    from vidrestore.types import Damage, FloatArray

    F64 = NDArray[np.float64]

MEMORY: Final = 0.5  # seconds in which what was seen of a track loses its weight to 1/e
# Columns: log2 of the resolution, noise, coding. Up to the first row a face is undamaged, from the second on it
# wants all that the restorer gives.
SOUND: Final = np.array([np.log2(1.2), 1.5 / 255, 3.0 / 255])
DAMAGED: Final = np.array([np.log2(1.6), 3.5 / 255, 5.0 / 255])


def followed(damage: Damage, tracks: NDArray[np.int64], times: F64, layer: Layer) -> FloatArray:
    """Strengths f32 [n] of faces in order of (track, frame).

    times: f64 [n], seconds. What is known of each track is read from the layer and left there for the next window.
    """
    seen = np.stack([np.log2(damage.resolution), damage.noise, damage.coding], 1).astype(np.float64)
    means = np.empty_like(seen)
    for track in dict.fromkeys(tracks.tolist()):
        rows = np.flatnonzero(tracks == track)
        means[rows] = averaged(seen[rows], times[rows], ("damage", track), layer)
    return strength(means)


def strength(damage: F64) -> FloatArray:
    """f64 [n, 3] (log2 of the resolution, noise, coding) -> f32 [n], 0..1; rises with each of the three."""
    x = np.clip((damage - SOUND) / (DAMAGED - SOUND), 0, 1)
    steps = x * x * (3 - 2 * x)
    strongest: FloatArray = steps.max(1, initial=0).astype(np.float32)
    return strongest


def averaged(seen: F64, times: F64, key: tuple[str, int], layer: Layer) -> F64:
    """Means f64 [t, k] over a track's frames so far, a frame's weight falling with its age; kept under ``key``."""
    before = layer.get(key) or {"seconds": float(times[0]), "mass": 0.0, "total": [0.0] * seen.shape[1]}
    last, mass, total = before["seconds"], before["mass"], np.array(before["total"])
    means = np.empty_like(seen)
    for i, now in enumerate(times.tolist()):
        keep = np.exp(-max(now - last, 0.0) / MEMORY)
        last, mass, total = now, float(keep * mass + 1), keep * total + seen[i]
        means[i] = total / mass
    layer.set(key, {"seconds": last, "mass": mass, "total": total.tolist()})
    return means
