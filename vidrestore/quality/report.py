"""What was measured, as rows for people and as plain data for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import vidrestore
from vidrestore.errors import OutputError
from vidrestore.quality.metrics import METRICS, RESTORED, ROLES, SOURCE, Metric
from vidrestore.quality.result import FLOW, Evaluation, Track

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA: Final = 1
_RATIOS: Final = ("e_warp", "vidd", "jitter")  # of the restored film to its source, where there is no reference


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of every film."""

    metric: Metric
    values: Mapping[str, float]  # by role
    spread: Mapping[str, float]  # standard deviation over faces and frames, by role
    ratio: float | None  # restored to source


def rows(found: Evaluation) -> list[Row]:
    """All that was measured, in the order it is shown."""
    out = []
    for metric in METRICS:
        values = {r: v for r in ROLES if (v := found.value(metric.key, r)) is not None}
        spread = {r: s.moments.std for r in values if (s := found.series.get((metric.key, r)))}
        if values:
            out.append(Row(metric, values, spread, _ratio(found, metric, values)))
    return out


def _ratio(found: Evaluation, metric: Metric, values: Mapping[str, float]) -> float | None:
    if found.has_reference or metric.key not in _RATIOS or not values.get(SOURCE):
        return None
    return values[RESTORED] / values[SOURCE]


def counts(found: Evaluation) -> str:
    """How much was looked at, in words."""
    numbers = {"frame": found.frames, "face": found.faces, "track": len(found.tracks)}
    frames, faces, tracks = (f"{n} {what}{'s' * (n != 1)}" for what, n in numbers.items())
    return f"{frames}, {faces} in {tracks}"


def as_dict(found: Evaluation) -> dict[str, Any]:
    """The JSON: films, counts, measures with their curves over time, tracks, and what was left out."""
    return {
        "schema": SCHEMA,
        "tool": f"vidrestore {vidrestore.__version__}",
        "films": found.paths,
        "frames": found.frames,
        "faces": found.faces,
        "crop": found.side,
        "flow": FLOW,
        "identity": found.identity,
        "left_out": found.left_out,
        "metrics": [_row(found, row) for row in rows(found)],
        "tracks": [_track(found, track) for track in found.tracks],
    }


def _row(found: Evaluation, row: Row) -> dict[str, Any]:
    metric = row.metric
    curves = {r: s.curve() for r in row.values if (s := found.series.get((metric.key, r)))}
    data: dict[str, Any] = {
        "key": metric.key,
        "name": metric.name,
        "unit": metric.unit,
        "better": metric.better,
        "values": {role: _short(value) for role, value in row.values.items()},
        "spread": {role: _short(value) for role, value in row.spread.items()},
        "curve": {role: [[round(t, 3), _short(v)] for t, v in curve] for role, curve in curves.items()},
    }
    return data if row.ratio is None else data | {"ratio": _short(row.ratio)}


def _track(found: Evaluation, track: Track) -> dict[str, Any]:
    values = {
        metric.key: {r: _short(v) for r in ROLES if (v := found.track_value(track, metric.key, r)) is not None}
        for metric in METRICS
    }
    return {
        "track": track.number,
        "begin": round(track.begin, 3),
        "end": round(track.end, 3),
        "frames": track.frames,
        "values": {key: by_role for key, by_role in values.items() if by_role},
    }


def _short(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")


def as_json(found: Evaluation) -> str:
    return json.dumps(as_dict(found), indent=1) + "\n"


def write(path: Path, text: str) -> None:
    """A report as a file, whole or not at all. Raises OutputError."""
    part = path.with_name(f".{path.name}.part"[-200:])
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(str(path), f"cannot be written: {error.strerror}", "name another file") from error
