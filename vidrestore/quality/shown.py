"""Pictures of a face, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from vidrestore.quality.instep import Moment

SIDE: Final = 384  # px
MOST: Final = 6  # of one track
_QUALITY: Final = 85  # of JPEG


@dataclass(frozen=True, slots=True)
class Sample:
    """One face at one moment."""

    seconds: float
    pictures: Mapping[str, bytes]  # JPEG by role


def sample(moment: Moment, pictures: Mapping[str, Tensor], row: int) -> Sample:
    """Face ``row`` of a moment as every film shows it."""
    one = replace(moment, tracks=moment.tracks[row : row + 1], matrices=moment.matrices[row : row + 1])
    crops = one.crops(pictures, SIDE)
    return Sample(moment.seconds, {role: _jpeg(x[0]) for role, x in crops.items()})


def _jpeg(face: Tensor) -> bytes:
    picture = np.rint(face.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(data)
