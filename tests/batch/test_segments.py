"""How shots become segments, and what segments tell of a film."""

from __future__ import annotations

import json
import subprocess
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import BATCH, batch, decoded
from hypothesis import given
from hypothesis import strategies as st
from skimage.data import astronaut

from vidrestore.batch.scanning import cut_up
from vidrestore.batch.store import Segment


@given(st.lists(st.integers(1, 300), min_size=1, max_size=30), st.integers(8, 100), st.sampled_from([1, 4, 16]))
def test_segments_cover_a_film_and_break_only_at_cuts_or_windows(lengths: list[int], length: int, window: int) -> None:
    marks = [0, *np.cumsum(lengths).tolist()]
    shots = list(pairwise(marks))
    segments = cut_up(shots, length, window)
    assert (segments[0].begin, segments[-1].end) == (0, marks[-1])
    assert all(a.end == b.begin for a, b in pairwise(segments))
    starts = dict(shots)
    for segment in segments:
        assert segment.continues == (segment.begin not in starts)
        if segment.continues:
            shot = max(mark for mark in marks if mark < segment.begin)
            assert (segment.begin - shot) % window == 0, "a part begins where a window does"
    longest = -(-length // window) * window
    assert all(s.end - s.begin < max(2 * longest, 4 * length) for s in segments), "none is much longer than asked for"
    assert all(s.end - s.begin >= min(length, marks[-1]) for s in segments[:-1] if not _before_long(s, shots, longest))


def _before_long(segment: Segment, shots: list[tuple[int, int]], part: int) -> bool:
    """Whether the next shot was too long to be added."""
    return any(begin == segment.end for begin, _ in shots)


@pytest.mark.slow
def test_parts_of_a_shot_give_the_plain_runs_pictures_and_record(tmp_path: Path) -> None:
    """A face through two shots, the second in parts that go on from the state of the one before."""
    film = tmp_path / "film.mp4"
    face = astronaut()[0:220, 100:350]
    y, x = np.mgrid[:240, :320]
    with av.open(str(film), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for i in range(64):
            one = i < 14
            ground = [100 + 40 * np.sin(x / 30), 110 + 30 * np.cos(y / 25), 60 + 0 * x]
            picture = np.stack(ground if one else [240 - g for g in ground], -1)
            picture[16:236, 10 + i % 50 : 260 + i % 50] = face if one else face[:, ::-1] * 0.6
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            out.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG")))
        out.mux(stream.encode(None))
    chain = ["-vf", "restore=classic,blend=feather:strength=1", "-c:v", "ffv1"]
    assert batch("run", film, "-o", tmp_path, *chain, "-f", "mkv", "--segment", "16").returncode == 0
    plain = tmp_path / "plain.mkv"
    subprocess.run([*BATCH[:-1], str(film), "-o", str(plain), *chain], check=True)
    joined = tmp_path / "film.restored.mkv"
    assert decoded(joined) == decoded(plain)
    records = [json.loads(Path(f"{path}.json").read_text()) for path in (joined, plain)]
    assert len(records[0]["segments"]) >= 3
    for key in ("frames_out", "frames_changed", "faces", "tracks", "shots", "strength", "gate", "weights", "input"):
        ours, theirs = records[0][key], records[1][key]
        assert ours == theirs or key == "tracks", key
    for ours, theirs in zip(records[0]["tracks"], records[1]["tracks"], strict=True):
        assert ours["mean_change"] == pytest.approx(theirs["mean_change"], abs=2e-5)
        assert {**ours, "mean_change": 0} == {**theirs, "mean_change": 0}
