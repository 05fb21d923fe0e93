"""Whose face is like that of a reference picture: one picture of each, compared by the embedder.

A face that is dark or a few pixels wide is like every other such face: what is chosen should be looked at.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import torch

from vidrestore.engine.pipeline import device_of
from vidrestore.engine.survey import survey
from vidrestore.errors import InputMediaError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from vidrestore.config import RunConfig
    from vidrestore.engine.job import Progress
    from vidrestore.engine.survey import Seen
    from vidrestore.notes import Notes


ALIKE: Final = 0.45  # least cosine of `embed=compact` at which two pictures are taken for one person


def numbers_like(
    source: str, picture: str, config: RunConfig, notes: Notes, tell: Callable[[Progress], None] | None = None
) -> str:
    """The numbers, as ``--faces`` takes them, of all faces of a film that are like the reference's.

    The film is read once for it. Raises UsageError where nobody is like it.
    """
    found = survey(source, config, notes, tell)
    cosines = likeness(found, picture, config, notes)
    chosen = [face.number for face, cosine in zip(found, cosines, strict=True) if cosine >= ALIKE]
    if not chosen:
        nearest = (
            f"; the nearest is face {found[int(np.argmax(cosines))].number}, at {max(cosines):.2f}" if found else ""
        )
        remedy = f"see: vidrestore faces {source} --like {picture}"
        raise UsageError("--like", f"nobody in the film is at least {ALIKE} alike{nearest}", remedy)
    return "+".join(map(str, chosen))


def likeness(found: Sequence[Seen], picture: str, config: RunConfig, notes: Notes) -> list[float]:
    """The cosine between each face of a film, as its picture shows it, and the largest face of the reference.

    Raises InputMediaError where the reference shows no face, and as a run does where it cannot be read.
    """
    reference = survey(picture, whole(config), notes)
    if not reference:
        raise InputMediaError(picture, "no face in it", "give a picture that shows one face, large and from the front")
    if not found:
        return []
    embedder = config.step("embed").make()
    device = device_of(config.settings.device)
    embedder.open(device)
    largest = max(reference, key=lambda face: face.width)
    vectors = embedder.embed(pictures([largest, *found]).to(device)).cpu()
    cosines: list[float] = (vectors[1:] @ vectors[0]).tolist()
    return cosines


def pictures(faces: Sequence[Seen]) -> Tensor:
    """f32 [n, 3, s, s] in 0..1: the aligned crop that shows each face best."""
    found = [cv2.imdecode(np.frombuffer(face.picture, np.uint8), cv2.IMREAD_COLOR_RGB) for face in faces]
    return torch.from_numpy(np.stack([np.asarray(face) for face in found])).permute(0, 3, 1, 2).float() / 255


def whole(config: RunConfig) -> RunConfig:
    """The same run for a picture that is no part of the film: nothing of it is left out or filtered."""
    settings = config.settings.model_copy(update={"start": None, "end": None})
    align = config.step("align")
    every = replace(align, options=align.options.model_copy(update={"faces": "all", "region": None}))
    steps = tuple(every if step is align else step for step in config.steps)
    return replace(config, steps=steps, settings=settings, before=(), after=())
