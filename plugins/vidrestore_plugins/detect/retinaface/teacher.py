"""YuNet, the detector whose boxes and landmarks the bundled network learns to repeat.

W. Wu, H. Peng, S. Yu: "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research, 2023.
Needed for training and evaluation only; runs on onnxruntime (extra ``train``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from vidrestore.api import Faces, ResourceError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]  # RGB [h, w, 3]

STRIDES = (8, 16, 32)


class YuNet:
    """The network of an ONNX file, on one thread."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ResourceError("teacher", "onnxruntime cannot be imported", "pip install vidrestore[train]") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, image: Picture, threshold: float = 0.6, nms: float = 0.45) -> Faces:
        """Faces in pixels of the picture, best first. Padded right and below with black to multiples of 32."""
        height, width = image.shape[:2]
        padded = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.float32)
        padded[:height, :width] = image[:, :, ::-1]  # BGR, 0..255
        values = self._session.run(self._names, {"input": padded.transpose(2, 0, 1)[None]})
        boxes, landmarks, scores = _decode(dict(zip(self._names, values, strict=True)), padded.shape[1], threshold)
        order = np.asarray(cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), threshold, nms), np.int64).reshape(-1)
        boxes[:, 2:] += boxes[:, :2]
        found = Faces(boxes, landmarks, scores, np.full(len(scores), -1, np.int64))
        return found[order]


def _decode(
    out: dict[str, NDArray[np.float32]], width: int, threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Boxes x y w h ``[n, 4]``, landmarks ``[n, 5, 2]`` and scores ``[n]`` of the cells above the threshold."""
    parts: list[tuple[NDArray[np.float32], ...]] = []
    for stride in STRIDES:
        cls, obj = (np.clip(out[f"{name}_{stride}"][0, :, 0], 0, 1) for name in ("cls", "obj"))
        score = np.sqrt(cls * obj)
        rows = np.flatnonzero(score >= threshold)
        cell = np.stack((rows % (width // stride), rows // (width // stride)), axis=1).astype(np.float32)
        raw = out[f"bbox_{stride}"][0, rows]
        centre, size = (cell + raw[:, :2]) * stride, np.exp(raw[:, 2:]) * stride
        points = (out[f"kps_{stride}"][0, rows].reshape(-1, 5, 2) + cell[:, None]) * stride
        parts.append((np.concatenate((centre - size / 2, size), axis=1), points, score[rows]))
    boxes, landmarks, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    return boxes, landmarks, scores
