"""How steady a film is: what is left of a frame after the next one is brought to it along the motion."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    F32 = NDArray[np.float32]
    U8 = NDArray[np.uint8]


def flows(reference: U8) -> list[tuple[F32, NDArray[np.bool_]]]:
    """The motion of each pair of neighbouring frames of ``reference`` (RGB u8 [t, h, w, 3])."""
    return [motion(first, second) for first, second in pairwise(reference)]


def motion(first: U8, second: U8) -> tuple[F32, NDArray[np.bool_]]:
    """The flow f32 [h, w, 2] from a frame (RGB u8 [h, w, 3]) to the next, and where it may be trusted.

    DIS, preset medium (T. Kroeger et al., ECCV 2016). Not trusted: occlusions, motion boundaries, and what leaves
    the picture, by the rules of W.-S. Lai et al.: "Learning Blind Video Temporal Consistency", ECCV 2018.
    """
    one, two = cv2.cvtColor(first, cv2.COLOR_RGB2GRAY), cv2.cvtColor(second, cv2.COLOR_RGB2GRAY)
    opencv: Any = cv2  # its stubs lack DIS
    dis = opencv.DISOpticalFlow_create(opencv.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward, back = dis.calc(one, two, None), dis.calc(two, one, None)
    return forward, _trusted(forward, back)


def warping_error(frames: F32, motion: list[tuple[F32, NDArray[np.bool_]]]) -> float:
    """E_warp of ``frames`` f32 [t, h, w, 3]: mean over pairs of the mean squared difference between a frame and the
    next one warped to it, where the flow is trusted. Of a difference to the truth it is the flicker of the error.
    """
    errors = []
    for t, (flow, mask) in enumerate(motion):
        gap = (frames[t] - warped(frames[t + 1], flow)) ** 2
        errors.append(float(gap.mean(2)[mask].mean()) if mask.any() else 0.0)
    return float(np.mean(errors)) if errors else 0.0


def warped(frame: F32, flow: F32) -> F32:
    """``frame`` [h, w, c] read at p + flow(p), bilinear."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    out: Any = cv2.remap(frame, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.float32)


def _trusted(forward: F32, back: F32) -> NDArray[np.bool_]:
    height, width = forward.shape[:2]
    returned = warped(back, forward)
    size = (forward**2).sum(2)
    occluded = ((returned + forward) ** 2).sum(2) > 0.01 * ((returned**2).sum(2) + size) + 0.5
    across, down = np.zeros_like(forward), np.zeros_like(forward)
    across[:, :-1], down[:-1] = forward[:, 1:] - forward[:, :-1], forward[1:] - forward[:-1]
    boundary = (across**2).sum(2) + (down**2).sum(2) > 0.01 * size + 0.002
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    tx, ty = x + forward[..., 0], y + forward[..., 1]
    outside = (tx < 0) | (ty < 0) | (tx > width - 1) | (ty > height - 1)
    return np.asarray(~(occluded | boundary | outside))


def identity_motion(embeddings: F32) -> float:
    """VIDD of embeddings f32 [t, d] of unit length: their mean distance from frame to frame; 0 = one and the same.

    Z. Chen et al.: "Towards Real-World Video Face Restoration: A New Benchmark", CVPRW 2024 (FOS).
    """
    return float(np.linalg.norm(embeddings[1:] - embeddings[:-1], axis=1).mean())


def jitter(points: F32, eyes: float) -> float:
    """Mean length of the second difference over time of points [t, n, 2], in percent of ``eyes``, the distance between
    the eyes in the same unit; 0 = all points move evenly. Of differences to the truth it is the jitter of the error."""
    bends = points[2:] - 2 * points[1:-1] + points[:-2]
    return float(100 * np.linalg.norm(bends, axis=2).mean() / eyes)


def motion_difference(film: tuple[U8, U8], truth: tuple[U8, U8]) -> float:
    """tOF: mean length in px of the difference between two flows, a film's from frame to frame and the truth's;
    frames RGB u8 [h, w, 3].

    M. Chu et al.: "Learning Temporal Coherence via Self-Supervision for GAN-based Video Generation" (TecoGAN), ACM
    Transactions on Graphics 39(4), 2020, section 5. Flow: G. Farneback, SCIA 2003, with that paper's settings.
    """
    return float(np.linalg.norm(_farneback(*film) - _farneback(*truth), axis=2).mean())


def _farneback(first: U8, second: U8) -> F32:
    one, two = cv2.cvtColor(first, cv2.COLOR_RGB2GRAY), cv2.cvtColor(second, cv2.COLOR_RGB2GRAY)
    opencv: Any = cv2
    return np.asarray(opencv.calcOpticalFlowFarneback(one, two, None, 0.5, 3, 15, 3, 5, 1.2, 0), np.float32)


def landmark_error(points: F32, truth: F32) -> float:
    """AKD: mean distance of landmarks [n, 2] from the true ones, in their own unit.

    As in R. Feng et al.: "Kalman-Inspired Feature Propagation for Video Face Super-Resolution" (KEEP), ECCV 2024,
    section 4, with five points.
    """
    return float(np.linalg.norm(points - truth, axis=1).mean())


def landmark_motion_error(points: F32, truth: F32, eyes: float) -> float:
    """LME: mean length of the difference between two motions, of landmarks [2, n, 2] and of the true ones from one
    frame to the next, in percent of ``eyes``. An even error of place costs nothing, one that changes does."""
    return float(100 * np.linalg.norm((points[1] - points[0]) - (truth[1] - truth[0]), axis=1).mean() / eyes)


def steadied(bends: F32, sigma: float = 2.0) -> F32:
    """The middle one of an odd number of second differences [t, n, 2], as it is once the landmarks are smoothed over
    time by a Gaussian of ``sigma`` frames: what a source's jitter would be without its noise. Smoothing and second
    differences are both linear and may be taken in either order."""
    weights = np.exp(-0.5 * ((np.arange(len(bends)) - (len(bends) - 1) / 2) / sigma) ** 2)
    return np.asarray(np.tensordot(weights / weights.sum(), bends, 1), np.float32)
