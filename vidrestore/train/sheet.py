"""A sheet of sample pictures, to see what a recipe sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vidrestore.train.shards import Picture


def sheet(pictures: Sequence[Picture], columns: int, gap: int = 2) -> Picture:
    """The pictures in rows of ``columns``, each in a cell of the largest one's size."""
    height = max(p.shape[0] for p in pictures) + gap
    width = max(p.shape[1] for p in pictures) + gap
    rows = -(-len(pictures) // columns)
    out = np.full((rows * height, columns * width, 3), 40, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * height, i % columns * width
        out[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return out


def write_png(path: Path, picture: Picture) -> None:
    """Raises OSError where the file cannot be written."""
    _, coded = cv2.imencode(".png", np.ascontiguousarray(picture[:, :, ::-1]))
    path.write_bytes(coded.tobytes())
