"""The contract of each hook, to be run by authors of plugins in their own tests.

::

    from vidrestore.testing import check_detector
    from mine import MyDetector

    def test_contract():
        check_detector(MyDetector)

Each check makes the plugin with its default options (or those given), feeds it small made-up data and raises
AssertionError with one sentence on the first promise that is broken.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import BaseModel

from vidrestore.engine.context import RunContext
from vidrestore.engine.memory import Layer, Memory
from vidrestore.engine.noise import TrackKey
from vidrestore.geometry.template import FFHQ_512
from vidrestore.notes import Notes
from vidrestore.types import Damage, FaceBatch, Faces, Film, Frame, Latent, Stretch

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

_CPU = torch.device("cpu")


def check_options(cls: Any) -> None:
    """Options: a frozen pydantic model that refuses unknown keys, with defaults and a help for every field."""
    model = cls.Options
    assert isinstance(model, type) and issubclass(model, BaseModel), "Options must be a pydantic model"
    assert model.model_config.get("frozen"), "Options must be frozen: model_config = ConfigDict(frozen=True, ...)"
    assert model.model_config.get("extra") == "forbid", "Options must refuse unknown keys: extra='forbid'"
    for name, field in model.model_fields.items():
        assert not field.is_required(), f"option '{name}' needs a default"
        assert field.description, f"option '{name}' needs a description"


def check_detector(cls: Any, **options: Any) -> None:
    """Shapes and ranges; an empty batch; a tiny picture; no picture depends on its neighbours."""
    detector = _made(cls, options)
    assert detector.side >= 0 and detector.every >= 1, "side >= 0 and every >= 1"
    detector.open(_CPU)
    rng = np.random.default_rng(0)
    pictures = torch.from_numpy(rng.integers(0, 256, (3, 96, 128, 3), dtype=np.uint8))
    together = detector.detect(pictures)
    assert len(together) == 3, "detect must give one Faces for each picture"
    assert detector.detect(pictures[:0]) == [], "detect of no picture must give an empty list"
    detector.detect(pictures[:1, :16, :16])
    for one, picture in zip(together, pictures, strict=True):
        _check_faces(one)
        alone = detector.detect(picture[None])[0]
        assert len(alone) == len(one), "a picture's faces depend on the other pictures of its batch"
        assert np.allclose(alone.boxes, one.boxes, atol=1e-2), "boxes depend on the other pictures of the batch"


def check_tracker(cls: Any, **options: Any) -> None:
    """One id for a face that moves, another for another face, the same after a restored state."""
    tracker, other = _made(cls, options), _made(cls, options)
    tracker.reset()
    seen: list[list[int]] = []
    for i in range(8):
        if i == 4:
            other.restore_state(tracker.state())
        found = tracker.update(_two(i))
        _check_faces(found)
        assert (found.tracks >= 0).all(), "update must leave out faces that belong to no track"
        seen.append(sorted(found.tracks.tolist()))
        if i >= 4:
            again = other.update(_two(i))
            assert again.tracks.tolist() == found.tracks.tolist(), "state() and restore_state() lose something"
    assert seen[-1] == seen[-2] and len(set(seen[-1])) == 2, "two slow faces must keep two ids"
    assert len(tracker.update(Faces.empty())) == 0, "update of no faces must give none"
    tracker.reset()
    first = tracker.update(_two(0)).tracks
    assert len(first) == 0 or first.min() == 0, "ids begin at 0 after a reset"


def check_assessor(cls: Any, **options: Any) -> None:
    """One row a crop, whatever its side; an empty batch; no crop changed; no row depends on the others."""
    assessor = _made(cls, options)
    assessor.open(_CPU)
    for size in (64, 256, 512):
        crops = _batch(size, 3).crops
        before = crops.clone()
        damage = assessor.assess(crops)
        assert isinstance(damage, Damage), "assess gives a Damage"
        assert len(damage) == 3, "assess must give one row a crop"
        assert torch.equal(crops, before), "assess must not change the crops that it is given"
        together, again = _columns(damage), _columns(assessor.assess(crops))
        assert np.isfinite(together).all(), "assess must give finite numbers"
        assert np.array_equal(together, again), "assess must repeat"
        alone = np.concatenate([_columns(assessor.assess(crops[i : i + 1])) for i in range(3)])
        assert np.allclose(alone, together, rtol=1e-3, atol=1e-5), "a row depends on the other crops of its batch"
    assert len(assessor.assess(crops[:0])) == 0, "assess of no crop must give no row"


def check_embedder(cls: Any, **options: Any) -> None:
    """One unit vector a crop, of one length whatever the crop's side; the same face at another side is the same face;
    an empty batch; no crop changed; no row depends on the others."""
    embedder = _made(cls, options)
    embedder.open(_CPU)
    crops = _batch(256, 3).crops
    small = embedder.embed(crops)
    assert small.ndim == 2 and len(small) == 3, "embed must give one row [d] a crop"
    for size in (64, 256, 512):
        crops = torch.nn.functional.interpolate(crops, (size, size), mode="bilinear", antialias=True)
        before = crops.clone()
        vectors = embedder.embed(crops)
        assert vectors.dtype == torch.float32 and vectors.shape == small.shape, "embed gives f32 [n, d], d for any side"
        assert torch.equal(crops, before), "embed must not change the crops that it is given"
        assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-3), "each row must have length 1"
        assert torch.equal(vectors, embedder.embed(crops)), "embed must repeat"
        assert float((vectors * small).sum(1).min()) > 0.8, "the same face at another side must stay the same face"
        alone = torch.cat([embedder.embed(crops[i : i + 1]) for i in range(3)])
        assert torch.allclose(alone, vectors, atol=1e-3), "a row depends on the other crops of its batch"
    assert embedder.embed(crops[:0]).shape == (0, small.shape[1]), "embed of no crop must give no row"


def check_restorer(cls: Any, **options: Any) -> None:
    """Declared latents in order, shape and range of the result, no input changed, batch 1 equals batch 3."""
    restorer = _made(cls, options)
    restorer.open(_CPU)
    assert len(set(restorer.latents)) == len(restorer.latents), "latents need different names"
    assert not {"crop", "output"} & set(restorer.latents), "'crop' and 'output' are the engine's own latents"
    batch = _batch(restorer.size, 3)
    before = batch.crops.clone()
    whole = restored_faces(restorer, batch)
    assert torch.equal(batch.crops, before), "restore must not change the crops that it is given"
    assert whole.shape == batch.crops.shape, f"restore must return {list(batch.crops.shape)}"
    assert bool(torch.isfinite(whole).all()), "restore must return finite numbers"
    assert float(whole.min()) >= -1e-3 and float(whole.max()) <= 1 + 1e-3, "restore must return 0..1"
    assert torch.equal(whole, restored_faces(restorer, batch)), "restore must repeat: ask ctx.noise for random numbers"
    for i in range(3):
        alone = restored_faces(restorer, batch[np.array([i])])
        assert torch.allclose(alone[0], whole[i], atol=2e-3), "a face depends on the other faces of its batch"


_LATENTS = {"w0": (5,), "g": (4, 16, 16), "crop": (3, 32, 32), "output": (3, 32, 32)}  # vectors, maps, pictures


def check_smoother(cls: Any, **options: Any) -> None:
    """What is constant stays; windows equal the whole; an absent face changes nothing; tracks do not see one
    another; state is a dict of tensors with one row a track. Of every kind of latent that it wants."""
    smoother = _made(cls, options)
    assert smoother.lookahead >= 0, "lookahead must not be negative"
    assert isinstance(smoother.wants("w0"), bool), "wants must say yes or no"
    for latent, shape in _LATENTS.items():
        if smoother.wants(latent):
            _check_smoothing(smoother, latent, shape)


def _check_smoothing(smoother: Any, latent: str, shape: tuple[int, ...]) -> None:
    n, missing = 24, slice(9, 11)
    constant = torch.full((2, n, *shape), 0.25)
    assert torch.allclose(_windows(smoother, latent, constant, n), constant, atol=1e-5), "a constant latent must stay"
    at = torch.arange(n).reshape(1, n, *(1 for _ in shape))
    moving = 0.5 + 0.3 * torch.sin(torch.arange(2 * n * constant[0, 0].numel()).reshape(constant.shape) / 9 + at)
    whole = _windows(smoother, latent, moving, n)
    for size in (4, 8):
        parts = _windows(smoother, latent, moving, size)
        assert torch.allclose(parts, whole, atol=1e-5), f"windows of {size} change the result"
    alone = _windows(smoother, latent, moving[1:], n)
    assert torch.allclose(alone[0], whole[1], atol=1e-5), "a track depends on the other tracks"
    other = moving.clone()
    other[:, missing] = 9.0
    without = [_windows(smoother, latent, x, 8, missing) for x in (moving, other)]
    kept = torch.ones(n, dtype=torch.bool)
    kept[missing] = False
    assert torch.equal(without[0][:, kept], without[1][:, kept]), "frames in which a face is absent must not count"


def check_degrader(cls: Any, **options: Any) -> None:
    """Damage follows from the film, its seed and the frame's number alone; another seed is another damage; all frames
    get one even size; something is damaged."""
    degrader = _made(cls, options)
    frame = np.tile(np.arange(96, dtype=np.uint8)[None, :, None] * 2, (64, 1, 3))
    wear, again, other = (degrader.begin(Film(96, 64, 3, seed, None)) for seed in (1, 1, 2))
    assert wear.codec in ("libx264", "mpeg4", "mpeg2video"), "codec must be libx264, mpeg4 or mpeg2video"
    seen = [wear.before_coding(frame.copy(), t) for t in range(3)]
    assert len({x.shape for x in seen}) == 1 and seen[0].shape[2] == 3, "all frames must have one size [h, w, 3]"
    assert not any(side % 2 for side in seen[0].shape[:2]), "sides must be even"
    assert all(x.dtype == np.uint8 for x in seen), "frames must be uint8"
    for t in (2, 0, 1):
        assert np.array_equal(again.before_coding(frame.copy(), t), seen[t]), "damage must follow from seed and t alone"
    if degrader.chain:  # the damage is in the faces, beforehand
        return
    differs = [not np.array_equal(other.before_coding(frame.copy(), t), x) for t, x in enumerate(seen)]
    assert any(differs), "another seed must give another damage"
    assert not np.array_equal(seen[0], frame), "nothing was damaged"


def check_blender(cls: Any, **options: Any) -> None:
    """Shapes; alpha in 0..1; nothing changed where the restored crop is the crop."""
    blender = _made(cls, options)
    batch = _batch(64, 2)
    restored, alpha = blender.blend(batch, batch.crops.clone())
    assert restored.shape == batch.crops.shape, "restored must keep its shape"
    assert alpha.shape == (2, 1, 64, 64), "alpha must be [n, 1, S, S]"
    assert float(alpha.min()) >= 0 and float(alpha.max()) <= 1, "alpha must lie in 0..1"
    assert torch.allclose(restored, batch.crops, atol=1e-5), "an unchanged crop must stay unchanged"


def check_decoder(cls: Any, film: Path, **options: Any) -> None:
    """Frames in order with rising pts, planes that fit their layout, the same at a second reading."""
    decoder = _made(cls, options)
    first, second = _decoded(decoder, film), _decoded(decoder, film)
    assert first, "no frames"
    assert [f[0] for f in first] == list(range(len(first))), "Frame.index must count from 0"
    assert all(a[1] < b[1] for a, b in pairwise(first)), "pts must rise"
    pairs = [(p, q) for a, b in zip(first, second, strict=True) for p, q in zip(a[2], b[2], strict=True)]
    assert all(np.array_equal(p, q) for p, q in pairs), "a second reading gives other pictures"


def check_encoder(cls: Any, film: Path, target: Path, **options: Any) -> None:
    """As many frames and the same times read back as were written; nothing lies there before ``finish``."""
    from vidrestore.media.encoding import EncodeSettings
    from vidrestore.media.reader import PyAVDecoder

    decoder, notes = PyAVDecoder(PyAVDecoder.Options(threads=1)), Notes()
    encoder, settings = _made(cls, options), EncodeSettings()
    with decoder.open(str(film), notes) as source, encoder.open(target, source, settings, notes) as sink:
        times = []
        for frame in source.frames():
            times.append(frame.seconds)
            sink.write(frame)
        assert not target.exists(), "the target must appear whole, at finish()"
        sink.finish()
    back = _decoded(decoder, target)
    assert len(back) == len(times), f"{len(times)} frames were written, {len(back)} are read back"
    shift = back[0][3] - times[0]
    assert all(abs(b[3] - t - shift) < 1e-3 for b, t in zip(back, times, strict=True)), "frames moved in time"


def _made(cls: Any, options: dict[str, Any]) -> Any:
    check_options(cls)
    return cls(cls.Options(**options))


def _check_faces(faces: Faces) -> None:
    assert faces.boxes.dtype == np.float32 and faces.landmarks.dtype == np.float32, "boxes and landmarks are float32"
    assert faces.tracks.dtype == np.int64, "tracks are int64"
    assert (faces.boxes[:, 2:] >= faces.boxes[:, :2]).all(), "boxes are x0 y0 x1 y1"
    assert ((faces.scores >= 0) & (faces.scores <= 1)).all(), "scores lie in 0..1"


def _two(i: int) -> Faces:
    points = (FFHQ_512 - FFHQ_512.mean(0)) / 5
    centres = [(80 + 2 * i, 90), (300 - i, 120 + i)]
    boxes = [(x - 40, y - 40, x + 40, y + 40) for x, y in centres]
    return Faces(
        np.array(boxes, np.float32), np.stack([points + c for c in centres]).astype(np.float32),
        np.array([0.95, 0.9], np.float32), np.full(2, -1, np.int64),
    )  # fmt: skip


def _batch(size: int, n: int) -> FaceBatch:
    """Faces of different tracks: smooth pictures with some noise."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:size, :size] / size
    base = [0.5 + 0.25 * np.sin(6 * x + i) * np.cos(5 * y - i) for i in range(n)]
    crops = np.stack([np.stack([b, b * 0.9, b * 0.8]) for b in base]) + rng.normal(0, 0.01, (n, 3, size, size))
    return FaceBatch(
        torch.from_numpy(crops.astype(np.float32)).clamp(0, 1), np.arange(n), np.zeros(n, np.int64), np.zeros(n),
        torch.ones(n, 32, 32), np.full(n, 1.5, np.float32),
    )  # fmt: skip


def _columns(damage: Damage) -> NDArray[np.float32]:
    return np.stack([damage.resolution, damage.noise, damage.coding], 1)


def restored_faces(restorer: Any, batch: FaceBatch, seed: int = 0) -> Tensor:
    """What a restorer that is open makes of a batch, f32 [n, 3, S, S], without smoothing; checks what it yields."""
    keys = {int(t): TrackKey(0, 0, int(t)) for t in batch.tracks}
    steps = restorer.restore(batch, RunContext(batch, keys, Layer(Memory()), seed, _CPU))
    names: list[str] = []
    value: Tensor | None = None
    with torch.inference_mode():
        while True:
            try:
                latent = next(steps) if value is None else steps.send(value)
            except StopIteration as end:
                assert tuple(names) == restorer.latents, f"declared {restorer.latents}, yielded {tuple(names)}"
                result: Tensor = end.value
                return result
            assert isinstance(latent, Latent), "a restorer yields Latent(name, value)"
            assert len(latent.value) == len(batch), "a latent has one row a face"
            names.append(latent.name)
            value = latent.value


def _windows(smoother: Any, latent: str, x: Tensor, size: int, missing: slice | None = None) -> Tensor:
    """Smooth a sequence [k, t, ...] in windows with look-ahead."""
    k, n = x.shape[:2]
    picture = x if x.shape[2:] == (3, 32, 32) else x.mean(tuple(range(2, x.ndim))).reshape(k, n, 1, 1, 1)
    source = picture.expand(k, n, 3, 32, 32)
    present = torch.ones(k, n, dtype=torch.bool)
    if missing is not None:
        present[:, missing] = False
    evidence = torch.full((k, n, *(1 for _ in x.shape[2:])), 0.5)
    out, state = [], None
    for start in range(0, n, size):
        stop = min(n, start + size)
        ahead = slice(start, min(n, stop + smoother.lookahead))
        times = torch.arange(ahead.start, ahead.stop, dtype=torch.float64) / 25
        stretch = Stretch(
            latent, x[:, ahead], source[:, ahead], times, evidence[:, ahead], present[:, ahead], stop - start
        )
        y, state = smoother.smooth(stretch, state)
        assert y.shape == x[:, start:stop].shape, "smooth must give the window's n_now frames"
        for key, part in (state or {}).items():
            assert isinstance(part, torch.Tensor) and len(part) == k, f"state['{key}'] must be a tensor [k, ...]"
        out.append(y)
    return torch.cat(out, 1)


def _decoded(decoder: Any, film: Path) -> list[tuple[int, int, list[Any], float]]:
    found = []
    with decoder.open(str(film), Notes()) as source:
        for frame in source.frames():
            _check_planes(frame)
            found.append((frame.index, frame.pts, [p.copy() for p in frame.planes], frame.seconds))
    return found


def _check_planes(frame: Frame) -> None:
    layout = frame.layout
    assert frame.planes[0].shape == (layout.height, layout.width), "the first plane has the layout's size"
    assert isinstance(frame.time_base, Fraction) and frame.time_base > 0, "time_base is a positive Fraction"
    assert not any(p.flags.writeable for p in frame.planes), "planes are read only: the decoder may need them again"
