"""Training pictures from plain tar files."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any

from vidrestore.errors import InputAccessError, InputMediaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]  # RGB [h, w, 3]


def members(shard: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every plain file of a tar, in its order.

    Raises InputAccessError where the file is missing, InputMediaError where it is no tar.
    """
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is not None:
                    yield member.name, content.read()
    except FileNotFoundError as error:
        raise InputAccessError(str(shard), "no such file", "give the folder of the shards with --data") from error
    except tarfile.TarError as error:
        raise InputMediaError(str(shard), f"not a tar file ({error})") from error


def decode(name: str, content: bytes) -> Picture:
    """The picture of an encoded file. Raises InputMediaError where OpenCV cannot read it."""
    import cv2
    import numpy as np

    bgr: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise InputMediaError(name, "not a picture that OpenCV reads")
    return np.ascontiguousarray(bgr[:, :, ::-1])


def pictures(shard: Path, wanted: set[str] | None = None) -> Iterator[tuple[str, Picture]]:
    """Name and decoded picture of the members; of those in ``wanted`` only, where it is given."""
    for name, content in members(shard):
        if wanted is None or name in wanted:
            yield name, decode(name, content)
