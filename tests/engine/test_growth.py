"""A longer film leaves no more in use: what the allocator has given out at the same place of every window.

The resident size cannot tell: threads run ahead of each other and free pages come and go. So the stages run in one
thread, on a face that stays where it is, and glibc says what is in use, which holds tensors, arrays and libraries.
"""

from __future__ import annotations

import ctypes
import gc
from typing import TYPE_CHECKING

import numpy as np
import torch
from fakes import Cells, Dim, Mean, Scripted, ThreeLatents, Whole, face, faces, film

from vidrestore.config import resolve
from vidrestore.engine.align import FFHQ, AlignOptions
from vidrestore.engine.clock import Clock
from vidrestore.engine.gate import Gate, GateOptions
from vidrestore.engine.pipeline import Stages, part
from vidrestore.engine.record import Record
from vidrestore.engine.restore import Plugins
from vidrestore.notes import Notes
from vidrestore.types import Scene
from vidrestore_plugins.track.bytetrack import ByteTrack, ByteTrackOptions

if TYPE_CHECKING:
    from vidrestore.types import Faces

WINDOW, WINDOWS = 8, 24
STEADY = slice(8, -4)  # windows; before them caches fill, after them those in flight run out
BAR = 1024  # bytes a frame; one small crop kept a frame is 64 times that


_NAMES = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class _Heap(ctypes.Structure):
    """mallinfo2(3), of all arenas."""

    _fields_ = [(name, ctypes.c_size_t) for name in _NAMES]


def in_use() -> int:
    """Bytes that the allocator has given out."""
    gc.collect()
    asked = ctypes.CDLL(None).mallinfo2
    asked.restype = _Heap
    heap = asked()
    return int(heap.uordblks + heap.hblkhd)


def one_face(_: int) -> Faces:
    return faces(face(80, 60, 60))


def test_a_longer_shot_leaves_no_more_in_use() -> None:
    gate = Gate(GateOptions(), Cells())
    plugins = Plugins(ThreeLatents(), Mean(5), Whole(), Dim(), 7, torch.device("cpu"), grain=0.5, gate=gate)
    align = FFHQ(AlignOptions(min_size=8))
    plan = Stages(Scripted(one_face), ByteTrack(ByteTrackOptions()), align, plugins, window=WINDOW)
    notes, record = Notes(), Record("film", "", resolve(environment={}))
    used = []
    frames = film(WINDOW * (WINDOWS + 8))
    for frame, window in part(frames, plan, notes, Clock(), Scene(0, 0, 0), WINDOW * WINDOWS, None):
        record.see(frame, window)
        if frame.index == window.frames[-1].index:
            used.append(in_use())
    assert len(used) == WINDOWS and record.faces == WINDOW * WINDOWS
    assert record.frames_changed > WINDOW * WINDOWS // 2, "faces were restored"
    steady = np.array(used[STEADY])
    growth = np.polyfit(np.arange(len(steady)) * WINDOW, steady, 1)[0]
    assert growth < BAR, f"{growth:.0f} bytes a frame"
