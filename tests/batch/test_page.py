"""The batch's page: how a film went, drawn from its record."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vidrestore.batch.page import page
from vidrestore.batch.previews import FOLDER, KINDS
from vidrestore.batch.store import FOLDER as STORE
from vidrestore.engine.course import Course
from vidrestore.types import Judged

ROW = {"id": 1, "state": "done", "source": "a.mp4", "output": "a.restored.mp4", "code": 0, "reason": "", "frames": 9}


def written(out: Path, rows: list[list[Any]]) -> str:
    """The page of one film whose record has this course."""
    columns = ["second", "faces", "share", "identity", "least_identity", "flicker", "most_flicker"]
    (out / "a.restored.mp4.json").write_text(json.dumps({"course": {"columns": columns, "rows": rows}}))
    (out / STORE / FOLDER).mkdir(parents=True)
    for kind in KINDS:
        (out / STORE / FOLDER / f"1.{kind}.jpg").write_bytes(b"")
    return page(out, [ROW], {"done": 1})


def curves(html: str, key: str) -> dict[str, list[tuple[float, float]]]:
    figure = html.partition(f'data-key="{key}"')[2].partition("</figure>")[0]
    found = re.findall(r'<polyline class="(\w+)" points="([^"]+)"', figure)
    return {name: [tuple(map(float, p.split(","))) for p in points.split()] for name, points in found}


def test_a_long_film_keeps_its_worst_second_in_few_points(tmp_path: Path) -> None:
    rows = [[s, 25, 1.0, 0.9, 0.85, 1.0, 1.1] for s in range(7200)]
    rows[5000] = [5000, 25, 0.0, 0.9, 0.2, 1.0, 3.0]
    html = written(tmp_path, rows)
    drawn = {key: curves(html, key) for key in ("likeness", "flicker", "shown", "faces")}
    assert all(50 < len(curve) <= 240 for figure in drawn.values() for curve in figure.values())
    shown = drawn["shown"]["mean"]
    assert min(y for _, y in shown) == 0 and max(y for _, y in shown) == 100, "from all to nothing, at 1 and 0"
    x, _ = max(shown, key=lambda point: point[1])
    assert 685 < x < 705, "where it was"
    assert 'data-value="0.2">0.20<' in html, "the least likeness stands in the table"


def test_a_film_without_faces_or_record_has_no_plots(tmp_path: Path) -> None:
    html = written(tmp_path, [])
    assert "<figure" not in html and "<template></template>" in html
    (tmp_path / "a.restored.mp4.json").unlink()
    assert page(tmp_path, [ROW], {"done": 1}) == html


def test_a_course_put_together_is_that_of_the_whole() -> None:
    rng = np.random.default_rng(5)
    whole, parts = Course(), [Course(), Course()]
    for i in range(60):
        n = int(rng.integers(0, 4))
        f32 = rng.random((4, n)).astype(np.float32)
        f32[1][rng.random(n) < 0.3] = np.nan
        rows = np.zeros(n, np.int64)
        judged = Judged(np.arange(n), rows, f32[0], f32[1], f32[2] * 3, f32[3], rows - 1)
        window: Any = SimpleNamespace(patches=[SimpleNamespace(row=0)] * n, judged=(judged,))
        frame: Any = SimpleNamespace(seconds=i / 25)
        whole.see(frame, 0, window)
        parts[i >= 33].see(frame, 0, window)
    for second, found in parts[1].seconds.items():
        parts[0].add(second, json.loads(json.dumps(found)))
    ours, theirs = parts[0].as_dict()["rows"], whole.as_dict()["rows"]
    assert len(ours) == 3
    assert np.array(ours, float) == pytest.approx(np.array(theirs, float), abs=2e-3)
