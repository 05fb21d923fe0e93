"""Small plugins and films that tests build on: every value in them has a closed form."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from vidrestore.config import resolve
from vidrestore.errors import VidrestoreError
from vidrestore.geometry.template import FFHQ_512
from vidrestore.types import Damage, FaceBatch, Faces, Frame, Latent, Layout, Stretch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from vidrestore.hooks import Context


def assert_refused_in_one_line(chain: str, words: list[str]) -> None:
    """Nothing is opened: the chain alone is wrong, and the line says where and what would be right."""
    with pytest.raises(VidrestoreError) as caught:
        resolve(chain=chain, environment={})
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


class NoOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def grey_layout(width: int, height: int, **changes: Any) -> Layout:
    values: dict[str, Any] = {
        "pix_fmt": "gray", "width": width, "height": height, "bits": 8, "family": "gray", "chroma": (0, 0),
        "alpha": False, "full_range": True, "matrix": "bt709", "siting": "left", "primaries": 2, "transfer": 2,
        "matrix_tag": 2, "range_tag": 2,
    }  # fmt: skip
    return Layout(**values | changes)


def film(n: int, width: int = 160, height: int = 120, cuts: tuple[int, ...] = ()) -> Iterator[Frame]:
    """Grey frames with a moving texture and noise; the frame's number is the value of its top-left corner.

    ``cuts`` are frames at which the picture changes size, which ends a shot without any detector of cuts.
    """
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rng = np.random.default_rng(5)
    wide = 0
    for i in range(n):
        if i in cuts:
            wide = 16 - wide
        picture = 120 + 60 * np.sin(x / 9 + i / 7) * np.cos(y / 11 - i / 5) + rng.normal(0, 4, x.shape)
        plane = np.pad(picture.clip(0, 255), ((0, 0), (0, wide)), mode="edge").astype(np.uint8)
        plane[:4, :4] = i % 256
        layout = grey_layout(width + wide, height)
        yield Frame((plane,), layout, i * 40, 40, Fraction(1, 1000), i, cut=i in cuts)


def face(x: float, y: float, size: float, score: float = 0.95) -> tuple[list[float], np.ndarray, float]:
    """A box around (x, y) and the landmarks of an upright face in it."""
    points = (FFHQ_512 - FFHQ_512.mean(0)) / 300 * size + (x, y)
    return [x - size / 2, y - size / 2, x + size / 2, y + size / 2], points, score


def faces(*found: tuple[list[float], np.ndarray, float]) -> Faces:
    if not found:
        return Faces.empty()
    boxes, points, scores = zip(*found, strict=True)
    n = len(found)
    return Faces(
        np.array(boxes, np.float32), np.array(points, np.float32), np.array(scores, np.float32), np.full(n, -1)
    )


def two_faces(i: int) -> Faces:
    """One face that sways through the whole film, one that is there in frames 9 to 40, missed in 20 to 23."""
    one = face(50 + 8 * np.sin(i / 6), 60 + 3 * np.cos(i / 4), 44)
    two = face(118 - 0.2 * i, 58, 36)
    return faces(one, two) if 9 <= i <= 40 and not 20 <= i <= 23 else faces(one)


@dataclass
class Scripted:
    """A detector that reads the frame's number from its corner and answers from a script."""

    script: Callable[[int], Faces] = two_faces
    every: int = 2
    side: int = 4096
    seen: list[int] = field(default_factory=list)
    Options: ClassVar[type[BaseModel]] = NoOptions

    def open(self, device: torch.device) -> None: ...

    def detect(self, images: Tensor) -> list[Faces]:
        numbers = [int(n) for n in images[:, 1, 1, 0]]
        self.seen += numbers
        return [self.script(n) for n in numbers]


class Dim:
    """An assessor: the brighter a crop's corner, the noisier is the crop, by ``gain``."""

    Options: ClassVar[type[BaseModel]] = NoOptions

    def __init__(self, options: Any = None, gain: float = 0.045) -> None:
        self.gain = gain

    def open(self, device: torch.device) -> None: ...

    def assess(self, crops: Tensor) -> Damage:
        noise = (self.gain * (crops[:, :, :8, :8].mean((1, 2, 3)) - 0.2).clamp(min=0)).cpu().numpy()
        return Damage(np.ones_like(noise), noise, np.zeros_like(noise))


class Cells:
    """An embedder: the pattern of light and dark, on a coarse grid."""

    Options: ClassVar[type[BaseModel]] = NoOptions

    def __init__(self, options: Any = None) -> None: ...

    def open(self, device: torch.device) -> None: ...

    def embed(self, crops: Tensor) -> Tensor:
        cells = torch.nn.functional.adaptive_avg_pool2d(crops.mean(1), 8).flatten(1)
        return torch.nn.functional.normalize(cells - cells.mean(1, keepdim=True) + 1e-6, dim=1)


class Plain:
    """No latent: a gain and an offset."""

    Options: ClassVar[type[BaseModel]] = NoOptions
    size = 32
    latents: tuple[str, ...] = ()

    def __init__(self, options: Any = None) -> None:
        self.batches: list[int] = []

    def open(self, device: torch.device) -> None: ...

    def restore(self, faces: FaceBatch, ctx: Context) -> Generator[Latent, Tensor, Tensor]:
        self.batches.append(len(faces))
        return faces.crops * 0.7 + 0.1
        yield


class OneLatent(Plain):
    """Its latent is the crop's mean colour, with keyed noise."""

    latents = ("mean",)

    def restore(self, faces: FaceBatch, ctx: Context) -> Generator[Latent, Tensor, Tensor]:
        mean = yield Latent("mean", faces.crops.mean((2, 3)) + 0.05 * ctx.noise("jitter", (3,), fixed=False))
        return faces.crops * 0.5 + 0.5 * mean[:, :, None, None] + 0.02 * ctx.noise("grain", (3, 32, 32))


class ThreeLatents(Plain):
    """A vector, a map and a vector again; uses what the context keeps for a track."""

    latents = ("h", "g", "x0")

    def restore(self, faces: FaceBatch, ctx: Context) -> Generator[Latent, Tensor, Tensor]:
        first = ctx.once("first", lambda rows: faces.crops[rows].mean((1, 2, 3)))
        h = yield Latent("h", faces.crops.mean((2, 3)))
        g = yield Latent("g", torch.nn.functional.avg_pool2d(faces.crops, 4) + h[:, :, None, None])
        memory = ctx.carry("memory")
        total = torch.zeros(len(faces))
        for track in dict.fromkeys(faces.tracks.tolist()):
            before = memory.get(track, torch.zeros(()))
            for row in np.flatnonzero(faces.tracks == track):
                before = 0.9 * before + 0.1 * g[row].mean()
                total[row] = before
            memory[track] = before
        x0 = yield Latent("x0", torch.stack([total, first, h.mean(1)], 1) + 0.1 * ctx.noise("n", (3,)))
        up = torch.nn.functional.interpolate(g, scale_factor=4)
        return (0.4 * faces.crops + 0.3 * up + 0.3 * x0[:, :, None, None]).clamp(0, 1)


class Mean:
    """The mean over a few frames of the past and ``lookahead`` of the future, weighted by evidence."""

    Options: ClassVar[type[BaseModel]] = NoOptions
    past = 3

    def __init__(self, lookahead: int, only: tuple[str, ...] | None = None) -> None:
        self.lookahead, self.only = lookahead, only

    def wants(self, latent: str) -> bool:
        return self.only is None or latent in self.only

    def smooth(self, stretch: Stretch, state: Any) -> tuple[Tensor, Any]:
        x, k, shape = stretch.x, stretch.x.shape[0], stretch.x.shape[2:]
        here = stretch.present.reshape(*stretch.present.shape, *(1 for _ in shape)).to(x.dtype)
        share = here * (1 + stretch.evidence.to(x.dtype)).expand(*x.shape[:2], *stretch.evidence.shape[2:])
        if state is None:
            state = {"x": x.new_zeros(k, self.past, *shape), "w": share.new_zeros(k, self.past, *share.shape[2:])}
        values, weights = torch.cat([state["x"], x], 1), torch.cat([state["w"], share], 1)
        out = []
        for i in range(stretch.n_now):
            window = slice(i, i + self.past + 1 + self.lookahead)
            total = weights[:, window].sum(1)
            out.append((values[:, window] * weights[:, window]).sum(1) / torch.where(total > 0, total, 1))
        kept = slice(stretch.n_now, stretch.n_now + self.past)
        return torch.stack(out, 1), {"x": values[:, kept], "w": weights[:, kept]}


class Whole:
    """Blends the whole crop, fully."""

    Options: ClassVar[type[BaseModel]] = NoOptions

    def blend(self, faces: FaceBatch, restored: Tensor) -> tuple[Tensor, Tensor]:
        return restored, torch.ones(len(faces), 1, *restored.shape[-2:])
