"""What a plugin is: one Protocol a kind. A plugin is a class with ``Options`` and one or two methods.

Every plugin is made by ``cls(options)``, cheaply: no weights, no device. Those that work on a device get
``open(device)`` before their first use. The engine chooses device, batch and seed; a plugin draws no random
number of its own. One that uses weights names them in an attribute ``weights`` (a tuple of names in the store):
their hashes go into the run record.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, MutableMapping, Sequence
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from pydantic import BaseModel
    from torch import Tensor

    from vidrestore.notes import Notes
    from vidrestore.types import Damage, FaceBatch, Faces, Film, Frame, Latent, Stretch


@runtime_checkable
class Plugin(Protocol):
    """What all kinds share."""

    Options: ClassVar[type[BaseModel]]

    def __init__(self, options: Any) -> None: ...


@runtime_checkable
class Detector(Plugin, Protocol):
    """Finds faces."""

    side: int  # longest side in px of the pictures it wants; larger frames are shrunk to it; 0: it wants none
    every: int  # frames from one detection to the next; tracks are interpolated between

    def open(self, device: torch.device) -> None: ...

    def detect(self, images: Tensor) -> list[Faces]:
        """uint8 RGB [b, h, w, 3] on the device, upright -> b Faces in pixels of these pictures."""
        ...


@runtime_checkable
class Tracker(Plugin, Protocol):
    """Gives the same face the same number from frame to frame."""

    def update(self, faces: Faces) -> Faces:
        """The next frame's faces -> those that belong to a track, with ``tracks`` filled (ids rise from 0
        after each reset). Called for frames on which the detector ran."""
        ...

    def reset(self) -> None: ...

    def state(self) -> Any:
        """All memory as plain data (numbers, lists, dicts, arrays)."""
        ...

    def restore_state(self, state: Any) -> None: ...


@runtime_checkable
class Assessor(Plugin, Protocol):
    """Says how damaged faces are: what ``strength=auto`` follows."""

    def open(self, device: torch.device) -> None: ...

    def assess(self, crops: Tensor) -> Damage:
        """f32 [n, 3, S, S] in 0..1, on the device, S as the restorer has it -> n rows, each by its crop alone."""
        ...


@runtime_checkable
class Embedder(Plugin, Protocol):
    """Says who a face is: what the quality gate compares."""

    def open(self, device: torch.device) -> None: ...

    def embed(self, crops: Tensor) -> Tensor:
        """f32 [n, 3, S, S] in 0..1, on the device, any S -> f32 [n, d] there, each row of length 1 and by its crop
        alone. The cosine of two rows says how alike two people are; damage should change it little."""
        ...


class Context(Protocol):
    """What the engine offers a restorer for one batch of faces."""

    device: torch.device

    def noise(self, name: str, shape: tuple[int, ...], *, fixed: bool = True) -> Tensor:
        """Unit Gaussian f32 [n, *shape] on the device, constant over a track (``fixed``) or drawn a frame."""
        ...

    def once(self, name: str, fn: Callable[[Tensor], Tensor]) -> Tensor:
        """Per-track constants [n, ...]. ``fn`` gets rows (i64 [m]: the first face of each track that has no
        value yet) and gives [m, ...]; kept for the track's life."""
        ...

    def carry(self, name: str) -> MutableMapping[int, Tensor]:
        """What a step remembers from window to window: track id -> tensor."""
        ...


@runtime_checkable
class Restorer(Plugin, Protocol):
    """Restores aligned faces."""

    size: int  # side S of the crops it wants
    latents: tuple[str, ...]  # names it will yield, in order

    def open(self, device: torch.device) -> None: ...

    def restore(self, faces: FaceBatch, ctx: Context) -> Generator[Latent, Tensor, Tensor]:
        """Yield each latent and receive it back smoothed; return f32 [n, 3, S, S] in 0..1."""
        ...


@runtime_checkable
class Smoother(Plugin, Protocol):
    """Steadies a latent over time."""

    lookahead: int  # frames of the future it wants to see of the latents it smooths

    def wants(self, latent: str) -> bool:
        """Whether it smooths the latent of this name ("crop" and "output" are names too)."""
        ...

    def smooth(self, stretch: Stretch, state: Any) -> tuple[Tensor, Any]:
        """Smooth one window of k tracks.

        state: None at a track's start, else what the window before gave, with one row per track. Gives the
        ``n_now`` frames smoothed, [k, n_now, ...], and the new state: a dict of tensors [k, ...].
        """
        ...


@runtime_checkable
class Blender(Plugin, Protocol):
    """Says what of a restored crop goes back into the picture."""

    def blend(self, faces: FaceBatch, restored: Tensor) -> tuple[Tensor, Tensor]:
        """f32 [n, 3, S, S] -> (restored, colour-matched; alpha f32 [n, 1, S, S] in 0..1)."""
        ...


class Wear(Protocol):
    """One film's damage: drawn, and the same whenever it is asked."""

    @property
    def codec(self) -> Literal["libx264", "mpeg4", "mpeg2video"]: ...

    @property
    def quality(self) -> int:
        """CRF of x264, quantiser of the others."""
        ...

    def before_coding(self, frame: NDArray[np.uint8], t: int) -> NDArray[np.uint8]:
        """Frame t, RGB [h, w, 3], upright -> the same damaged, at the size it is coded at (even sides, the same for
        all frames). The engine codes it, decodes it and enlarges it."""
        ...


@runtime_checkable
class Degrader(Plugin, Protocol):
    """Damages a film on purpose."""

    chain: str  # steps that damage its faces beforehand, e.g. "restore=flipnet:mode=degrade"; empty: none

    def begin(self, film: Film) -> Wear: ...


@runtime_checkable
class Decoder(Plugin, Protocol):
    """Opens a film and gives its frames."""

    def open(self, source: str, notes: Notes, *, settings: Any = None) -> AbstractContextManager[Any]:
        """A path, or "-" for standard input; ``settings`` is a ``media.reader.ReadSettings``. What is opened has
        ``info``, ``streams``, ``copied``, ``frames()`` and ``failure``, as ``media.reader.Source`` has them."""
        ...


@runtime_checkable
class Sampler(Plugin, Protocol):
    """What a decode plugin may be beside or instead: one that gives single pictures to look at, never to be written."""

    def sample(self, info: Any, seconds: Sequence[float]) -> Iterator[Frame]:
        """A picture near each of these times, in seconds on the film's own clock; small ones will do. ``info`` is a
        ``media.probe.MediaInfo``. Raises InputMediaError for a film that it may misread, ResourceError where it does
        not work here."""
        ...


@runtime_checkable
class Encoder(Plugin, Protocol):
    """Opens an output and takes frames."""

    def open(
        self, target: Path | None, source: Any, settings: Any, notes: Notes, *, overwrite: bool = False
    ) -> AbstractContextManager[Any]:
        """A path, or None for standard output; ``source`` is what a decoder opened, ``settings`` a
        ``media.encoding.EncodeSettings``. What is opened has ``write(frame)``, ``finish()``, ``abort()`` and
        ``summary``; everything that can be refused is refused here, and nothing is published before ``finish``."""
        ...


class Recipe(Protocol):
    """Training that makes a bundled weights file."""

    def __call__(self, arguments: list[str]) -> None: ...
