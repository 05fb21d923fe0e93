"""Where landmarks lie in aligned crops, whatever film they are of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vidrestore.hooks import Detector


def landmarks(crops: Tensor, detector: Detector) -> NDArray[np.float32]:
    """Five landmarks of each aligned face f32 [n, 3, s, s] in 0..1: [n, 5, 2] px of the crop; not a number where no
    face is found. A mirrored border of a quarter lets the detector see all of the head."""
    pad = crops.shape[-1] // 4
    wide = F.pad(crops, (pad,) * 4, mode="reflect").permute(0, 2, 3, 1)
    pictures = (wide * 255).round().clamp(0, 255).byte().contiguous()
    out = np.full((len(crops), 5, 2), np.nan, np.float32)
    if not len(crops):
        return out
    with torch.inference_mode():
        found = detector.detect(pictures)
    for i, faces in enumerate(found):
        if len(faces):
            area = np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1)
            out[i] = faces.landmarks[area.argmax()] - pad
    return out
