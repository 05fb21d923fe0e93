"""The records that travel through the pipeline: structs of arrays that check themselves once, at birth.

Conventions, the same everywhere:

- pixel centres lie on integer coordinates; the first sample of a row is x = 0;
- *stored* coordinates are luma samples as coded; *display* coordinates are upright, unmirrored pixels of
  square shape, as a viewer sees them. Boxes and landmarks are in display coordinates;
- boxes are ``x0 y0 x1 y1``; landmarks are eye at image left, eye at image right, nose tip, mouth corner
  at image left, mouth corner at image right;
- an affine map is a float64 ``[2, 3]`` matrix acting on column vectors ``(x, y, 1)``;
- crops are RGB, float32, 0..1, gamma-encoded, ``[n, 3, S, S]``;
- times are integer ticks of a Fraction time base; seconds as float only where a filter needs them.

Neither numpy nor torch is imported at run time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    FloatArray = NDArray[np.float32]
    IntArray = NDArray[np.int64]
    Affine = NDArray[np.float64]  # [2, 3]
    Plane = NDArray[np.uint8] | NDArray[np.uint16]  # [h, w]

Family = Literal["yuv", "gray", "rgb"]
Matrix = Literal["bt601", "bt709", "bt2020"]
Siting = Literal["left", "center", "topleft", "top", "bottomleft", "bottom"]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the planes of a frame are to be read. Hashable: converters are cached by it.

    Colour numbers are those of ITU-T H.273; 2 means unspecified and stays so in the output.
    """

    pix_fmt: str  # ffmpeg's name, e.g. "yuv420p10le"
    width: int  # luma samples, as stored
    height: int
    bits: int  # significant bits of a sample, 8..16
    family: Family  # planes are Y U V, Y, or G B R
    chroma: tuple[int, int]  # log2 subsampling (horizontal, vertical): 4:2:0 is (1, 1)
    alpha: bool  # a last plane of opacity follows
    full_range: bool
    matrix: Matrix  # the maths to use; assumed where the file does not say
    siting: Siting
    primaries: int  # H.273 colour_primaries
    transfer: int  # H.273 transfer_characteristics
    matrix_tag: int  # H.273 matrix_coefficients, as tagged
    range_tag: int  # 0 untagged, 1 limited, 2 full
    sar: Fraction = Fraction(1)  # width : height of one stored sample
    turn: tuple[int, int, int, int] = (1, 0, 0, 1)  # 2x2 of 0 and +-1: stored (x, y) -> display (x, y)
    interlaced: bool = False

    def __post_init__(self) -> None:
        a, b, c, d = self.turn
        if abs(a * d - b * c) != 1 or a * b != 0 or a * c != 0:
            raise ValueError(f"Layout.turn must be one of the eight turns and mirrors; got {self.turn}")
        if self.sar <= 0:
            raise ValueError(f"Layout.sar must be positive; got {self.sar}")

    @property
    def hdr(self) -> bool:
        """Whether samples follow PQ (SMPTE ST 2084) or HLG (ARIB STD-B67)."""
        return self.transfer in (16, 18)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture with its native planes, from decoder to encoder."""

    planes: tuple[Plane, ...]  # Y U V | Y | G B R, then alpha; u8 or u16 [h_i, w_i]; views, read only
    layout: Layout
    pts: int  # ticks of time_base
    duration: int  # ticks; 0 where unknown
    time_base: Fraction
    index: int  # counted from 0 in the order of the film
    corrupt: bool = False  # the decoder marked it damaged
    cut: bool = False  # size or pixel format changed here in the source: nothing carries over from the frame before
    native: Any = field(default=None, repr=False)  # the decoder's own picture; opaque outside media
    field: Field | None = field(default=None, repr=False)  # of which interlaced frame it shows one field alone

    def __post_init__(self) -> None:
        want = "uint8" if self.layout.bits == 8 else "uint16"
        for i, plane in enumerate(self.planes):
            if plane.ndim != 2 or str(plane.dtype) != want:
                got = f"{plane.dtype} {list(plane.shape)}"
                raise ValueError(f"Frame.planes[{i}] must be {want} [h, w] at {self.layout.bits} bits; got {got}")

    def __repr__(self) -> str:
        shapes = " ".join("x".join(map(str, p.shape[::-1])) for p in self.planes)
        return f"Frame({self.index}, pts={self.pts}*{self.time_base}, {self.layout.pix_fmt} {shapes})"

    @property
    def seconds(self) -> float:
        return float(self.pts * self.time_base)

    @property
    def nbytes(self) -> int:
        return sum(p.nbytes for p in self.planes)


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """Which field of which frame."""

    whole: Frame
    top: bool  # its lines are the frame's first, third, ...; else its second, fourth, ...

    @property
    def lines(self) -> slice:
        """Of a plane."""
        return slice(0 if self.top else 1, None, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """The faces of one frame, in display coordinates."""

    boxes: FloatArray  # f32 [n, 4]
    landmarks: FloatArray  # f32 [n, 5, 2]
    scores: FloatArray  # f32 [n], 0..1; 0 for a face filled in between detections
    tracks: IntArray  # i64 [n], -1 where not tracked

    def __post_init__(self) -> None:
        n = len(self.boxes)
        want = {"boxes": (n, 4), "landmarks": (n, 5, 2), "scores": (n,), "tracks": (n,)}
        for name, shape in want.items():
            got = tuple(getattr(self, name).shape)
            if got != shape:
                raise ValueError(f"Faces.{name} must be {list(shape)}; got {list(got)}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: Any) -> Faces:
        """Rows by slice, index array or mask."""
        return Faces(self.boxes[rows], self.landmarks[rows], self.scores[rows], self.tracks[rows])

    @staticmethod
    def empty() -> Faces:
        import numpy as np

        f32 = np.float32
        return Faces(np.zeros((0, 4), f32), np.zeros((0, 5, 2), f32), np.zeros(0, f32), np.zeros(0, np.int64))

    def with_tracks(self, tracks: IntArray) -> Faces:
        return replace(self, tracks=tracks)


@dataclass(frozen=True, slots=True, eq=False)
class FaceBatch:
    """Aligned crops of several faces and frames of one window, rows in order of (track, frame)."""

    crops: Tensor  # f32 [n, 3, S, S], 0..1, RGB, on the device
    tracks: IntArray  # i64 [n]
    frames: IntArray  # i64 [n], position of the frame in its shot
    times: NDArray[np.float64]  # [n], seconds
    evidence: Tensor  # f32 [n, 32, 32], 0 = only noise changed since the frame before, 1 = the picture changed
    scale: FloatArray  # f32 [n], crop pixels per display pixel; above 1 the crop is an enlargement

    def __post_init__(self) -> None:
        n = len(self.tracks)
        if self.crops.ndim != 4 or self.crops.shape[0] != n or self.crops.shape[1] != 3:
            raise ValueError(f"FaceBatch.crops must be [{n}, 3, S, S]; got {list(self.crops.shape)}")
        for name in ("frames", "times", "evidence", "scale"):
            if len(getattr(self, name)) != n:
                raise ValueError(f"FaceBatch.{name} must have {n} rows; got {len(getattr(self, name))}")

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, rows: IntArray) -> FaceBatch:
        """Rows by index array."""
        return FaceBatch(
            self.crops[rows], self.tracks[rows], self.frames[rows], self.times[rows], self.evidence[rows],
            self.scale[rows],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Damage:
    """How damaged crops are, on the CPU. Sides are counted at 256 px a crop, whatever the crop's own side."""

    resolution: FloatArray  # f32 [n], >= 1: how many times coarser than a grid of 256 the finest detail is; 1 = sharp
    noise: FloatArray  # f32 [n], >= 0: sigma of noise, of 0..1
    coding: FloatArray  # f32 [n], >= 0: rms of the error that lossy coding left, of 0..1

    def __post_init__(self) -> None:
        n, least = len(self.resolution), {"resolution": 1, "noise": 0, "coding": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value.shape != (n,) or str(value.dtype) != "float32":
                raise ValueError(f"Damage.{name} must be float32 [{n}]; got {value.dtype} {list(value.shape)}")
            if not (value >= low).all():
                raise ValueError(f"Damage.{name} must be >= {low}; got {value}")

    def __len__(self) -> int:
        return len(self.resolution)


@dataclass(frozen=True, slots=True)
class Film:
    """What is known of a film before it is damaged. Sides are upright."""

    width: int
    height: int
    frames: int
    seed: int  # of the damage
    eyes: float | None  # px between the eyes of its main face; None where no face was found


@dataclass(frozen=True, slots=True, eq=False)
class Latent:
    """What a restorer yields: a named tensor that is smoothed over time and handed back."""

    name: str
    value: Tensor  # [n, ...], rows as in the batch


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """One latent of k tracks over a window and the look-ahead behind it: what a smoother sees."""

    latent: str  # its name; "crop" is the source's crop, "output" what restoring it changed (restored - source)
    x: Tensor  # [k, t, ...] the window's ``n_now`` frames, then look-ahead (less of it at a shot's end)
    source: Tensor  # f32 [k, t, 3, S, S], 0..1: the crops as the film has them
    times: Tensor  # f64 [t], seconds
    evidence: Tensor  # f32 [k, t, ...], broadcastable to x: 0 = only noise changed since the frame before .. 1
    present: Tensor  # bool [k, t]; where it is not, x, source and evidence are 0
    n_now: int

    def __post_init__(self) -> None:
        k, t = self.x.shape[:2]
        shapes = {"source": (k, t), "evidence": (k, t), "present": (k, t), "times": (t,)}
        for name, want in shapes.items():
            got = tuple(getattr(self, name).shape[: len(want)])
            if got != want:
                raise ValueError(f"Stretch.{name} must begin with {list(want)}; got {list(got)}")
        if not 1 <= self.n_now <= t:
            raise ValueError(f"Stretch.n_now must be 1 to {t}; got {self.n_now}")


@dataclass(frozen=True, slots=True)
class Scene:
    """A shot: frames between two cuts or changes of picture size. It keys all state and noise."""

    number: int  # counted from 0 in the film
    pts: int  # of its first frame
    index: int  # of its first frame


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """What is added to one frame: a difference at the source's own size."""

    row: int  # of the frame in its window
    track: int
    x0: int  # stored luma samples; on the chroma grid
    y0: int
    difference: Tensor  # f32 [3, h, w], R'G'B', times alpha, on the CPU
    alpha: Tensor  # f32 [h, w], 0..1


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """The faces of a window that are to be restored, rows in order of (track, frame)."""

    tracks: IntArray  # i64 [n], unique within a run
    births: IntArray  # i64 [n], position in the shot of the track's first frame
    ranks: IntArray  # i64 [n], left-to-right rank among the tracks born in that frame
    rows: IntArray  # i64 [n], frame within the window
    matrices: Affine  # f64 [n, 2, 3], display px -> px of a crop of 512; scaled by S/512 for another side
    weights: FloatArray  # f32 [n], 0..1: fades in and out with the track, fades out with tiny size

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, rows: Any) -> Placed:
        """Rows by slice, index array or mask."""
        return Placed(
            self.tracks[rows], self.births[rows], self.ranks[rows], self.rows[rows], self.matrices[rows],
            self.weights[rows],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What the gate found of a window's restored faces; NaN where it did not look."""

    tracks: IntArray  # i64 [n]
    rows: IntArray  # i64 [n], frame within the window
    shares: FloatArray  # f32 [n], 0..1: how much of each may be shown
    identity: FloatArray  # f32 [n], cosine to the source's face
    flicker: FloatArray  # f32 [n], times more than the source it changes from frame to frame
    detail: FloatArray  # f32 [n], times the source's detail
    causes: IntArray  # i64 [n], which of these three asked for less than all, -1: none of them


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A fixed number of frames of one shot, counted from its start and cut only by its end."""

    frames: tuple[Frame, ...]
    scene: Scene
    start: int  # position of the first frame in the shot
    last: bool  # the shot ends with it
    found: tuple[Faces | None, ...] = ()  # by frame; None where the detector did not look
    faces: tuple[Faces, ...] = ()  # by frame; tracked, gaps filled
    placed: Placed | None = None
    patches: tuple[Patch, ...] = ()
    strengths: FloatArray | None = None  # f32 [n], 0..1, of the faces that were restored; None before
    judged: tuple[Judged, ...] = ()  # by batch of faces; empty where no gate looked
    after: Any = None  # the analysis' memory once this window was placed

    @property
    def stop(self) -> int:
        """Position in the shot of the frame after the last."""
        return self.start + len(self.frames)

    @property
    def nbytes(self) -> int:
        patches = sum(4 * (p.difference.numel() + p.alpha.numel()) for p in self.patches)
        return sum(f.nbytes for f in self.frames) + patches
