"""Whether a film with masks is still what it was proved to be: the source, everywhere outside its masks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vidrestore.batch.spec import Spec
from vidrestore.config import resolve
from vidrestore.engine.film import opened
from vidrestore.engine.masks import DECODED
from vidrestore.errors import VidrestoreError
from vidrestore.media.masks import masks_of, outside_sum, sums_in
from vidrestore.media.segments import sha256_of
from vidrestore.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vidrestore.batch.store import Job, Store
    from vidrestore.config import RunConfig


def disproved(store: Store, job: Job) -> str:
    """What of a job's proof does not hold; nothing where all of it does, or where it has none.

    The masks and the sums must be the files that were published. The sums are taken again of the source, where it is
    there as it was, and of the output, where its pictures decode to what was encoded.
    """
    result = json.loads(job.result)
    told = result.get("masks")
    if told is None:
        return ""
    folder = (store.out / job.output).parent
    masks, sums = folder / told["file"], folder / told["outside"]["file"]
    for path, sha256 in ((masks, told["sha256"]), (sums, told["outside"]["sha256"])):
        if not path.is_file():
            return f"{path.name} is gone"
        if sha256_of(path, lambda: None) != sha256:
            return f"{path.name} differs from what was published"
    wanted = sums_in(sums.read_text("utf-8"))
    films = [(job.source, Spec.read(job.spec).config())] if _is_there(job.source, result["source_sha256"]) else []
    films += [(store.out / job.output, resolve())] if told["outside"]["of"] == DECODED else []
    for film, config in films:
        try:
            frame = _first_other(film, config, masks, wanted)
        except VidrestoreError as error:
            return str(error)
        if frame is not None:
            return f"frame {frame} of {film.name} has other samples outside its mask"
    return ""


def _is_there(source: Path, sha256: str) -> bool:
    return source.is_file() and sha256_of(source, lambda: None) == sha256


def _first_other(film: Path, config: RunConfig, masks: Path, wanted: Sequence[str]) -> int | None:
    """The first frame of a film whose sum outside its mask is not the one that is wanted."""
    with opened(str(film), config, Notes()) as read:
        pairs: Any = zip(read.source.frames(), masks_of(masks, read.source.info.layout), strict=False)
        found = (outside_sum(frame.planes, frame.layout, mask) for frame, mask in pairs)
        count = -1
        for count, one in enumerate(found):
            read.read.copied.take()
            if count >= len(wanted) or one != wanted[count]:
                return count
    return None if count + 1 == len(wanted) else count + 1
