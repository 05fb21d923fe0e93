"""The FFHQ five-point template and the similarity that carries a face onto it.

Template: the five mean landmarks of the FFHQ alignment at 512 px as facexlib and its descendants use them.
Fit: least-squares similarity without reflection (S. Umeyama, IEEE PAMI 13(4), 1991), in the closed form that
complex numbers give in the plane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vidrestore.types import Affine

FFHQ_512: Final = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
NOSE: Final = 0.6  # of the eyes' distance: how far the tip stands out of the plane of eyes and mouth, in adults


def template(size: int) -> NDArray[np.float64]:
    """Landmarks [5, 2] in a crop of ``size`` px. Pixel centres on integers, scaled about the corner."""
    return FFHQ_512 * (size / 512)


def fit_similarity(source: NDArray[np.float32], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Similarities [n, 2, 3] that carry landmarks [n, 5, 2] onto [5, 2], least squares, no reflection.

    Coinciding landmarks give scale 0; the caller drops such faces.
    """
    p = source[..., 0].astype(np.float64) + 1j * source[..., 1].astype(np.float64)
    q = target[..., 0] + 1j * target[..., 1]
    p0, q0 = p.mean(-1, keepdims=True), q.mean(-1, keepdims=True)
    spread = (np.abs(p - p0) ** 2).sum(-1)
    a = (np.conj(p - p0) * (q - q0)).sum(-1) / np.where(spread > 0, spread, 1)  # scale and turn in one number
    t = q0[..., 0] - a * p0[..., 0]
    rows = [np.stack([a.real, -a.imag, t.real], -1), np.stack([a.imag, a.real, t.imag], -1)]
    return np.stack(rows, -2)


def yaw_of(landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far heads [n, 5, 2] are turned aside, degrees 0..90, whichever side.

    A head that turns by yaw about its vertical axis shows its eyes ``cos(yaw)`` as far apart, and the tip of its nose,
    which stands out by NOSE of the eyes' distance, ``NOSE sin(yaw)`` aside of the line from between the eyes to
    between the corners of the mouth. Their ratio does not know the size or the roll of the head.
    """
    p = landmarks.astype(np.float64)
    eyes, mouth = (p[:, 0] + p[:, 1]) / 2, (p[:, 3] + p[:, 4]) / 2
    down = mouth - eyes
    down = down / np.maximum(np.linalg.norm(down, axis=1, keepdims=True), 1e-9)
    across = np.stack([down[:, 1], -down[:, 0]], 1)
    nose = np.abs(((p[:, 2] - eyes) * across).sum(1))
    apart = np.abs(((p[:, 1] - p[:, 0]) * across).sum(1))
    yaw: NDArray[np.float64] = np.degrees(np.arctan2(nose, NOSE * apart))
    return yaw


def pose_of(matrix: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Similarities [n, 2, 3] -> poses [n, 4]: centre x, y of the crop, log of px a crop pixel, turn in rad.

    All in the space the matrix acts on. The pose is what is smoothed over time: four independent numbers.
    """
    scale = np.hypot(matrix[:, 0, 0], matrix[:, 1, 0])
    turn = np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0])
    middle = np.array([(size - 1) / 2, (size - 1) / 2, 1.0])
    centre = np.stack([inverse(m) @ middle for m in matrix]) if len(matrix) else np.zeros((0, 2))
    return np.column_stack([centre, -np.log(scale), turn])


def matrix_of(pose: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Poses [n, 4] -> similarities [n, 2, 3]; the inverse of ``pose_of``."""
    scale, turn = np.exp(-pose[:, 2]), pose[:, 3]
    a, b = scale * np.cos(turn), scale * np.sin(turn)
    middle = (size - 1) / 2
    tx = middle - (a * pose[:, 0] - b * pose[:, 1])
    ty = middle - (b * pose[:, 0] + a * pose[:, 1])
    return np.stack([np.stack([a, -b, tx], -1), np.stack([b, a, ty], -1)], -2)


def compose(outer: Affine, inner: Affine) -> Affine:
    """The map that applies ``inner`` first."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def inverse(matrix: Affine) -> Affine:
    """The map that undoes ``matrix``."""
    back = np.linalg.inv(matrix[:, :2])
    return np.column_stack([back, -back @ matrix[:, 2]])


def apply(matrix: Affine, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points [..., 2] carried by the map."""
    return points @ matrix[:, :2].T + matrix[:, 2]
