"""What was measured as one page: a table, plots over time, and faces to wipe between films. It needs no network."""

from __future__ import annotations

import base64
import json
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Final

from vidrestore.quality.metrics import METRICS, ROLES
from vidrestore.quality.report import as_dict, counts, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidrestore.quality.metrics import Metric
    from vidrestore.quality.report import Row
    from vidrestore.quality.result import Evaluation, Track
    from vidrestore.quality.shown import Sample

_BETTER: Final = {"more": "higher is better", "less": "lower is better", "one": "1 is best"}
_OF_TRACK: Final = ("psnr_face", "detail", "ids", "id_source", "vidd", "e_warp_error", "e_warp", "jitter_ratio", "seam")


def page(found: Evaluation) -> str:
    """The whole page as HTML."""
    name = escape(Path(found.paths["restored"]).name)
    roles = [role for role in ROLES if role in found.paths]
    parts = [
        _header(found, name),
        _table(rows(found), roles),
        _plots(found, roles),
        _tracks(found, roles),
        _left_out(found),
        _footer(found),
    ]
    data = json.dumps(as_dict(found), ensure_ascii=True).replace("<", "\\u003c")
    template = Template(files("vidrestore.quality").joinpath("page.html").read_text("utf-8"))
    return template.substitute(title=f"{name}: quality", body="\n".join(parts), data=data, films=len(roles))


def _header(found: Evaluation, name: str) -> str:
    against = " and ".join(
        f'{role} <b class="{role}">{escape(Path(found.paths[role]).name)}</b>'
        for role in ("reference", "source")
        if role in found.paths
    )
    counted = f"{counts(found)}, crops of {found.side} px"
    return f"<header><h1>{name}</h1><p>against the {against}</p><p class=soft>{counted}</p></header>"


def _table(all_rows: Sequence[Row], roles: Sequence[str]) -> str:
    with_ratio = any(row.ratio is not None for row in all_rows)
    head = "".join(f'<th class="{role}">{role}</th>' for role in roles) + ("<th>ratio</th>" if with_ratio else "")
    body = []
    for row in all_rows:
        metric = row.metric
        cells = "".join(_cell(metric, row.values.get(role), row.spread.get(role)) for role in roles)
        if with_ratio:
            cells += _cell(metric, row.ratio, None)
        unit = f"{escape(metric.unit)}, " if metric.unit else ""
        about = f"<td class=about>{escape(metric.about)}</td>"
        body.append(
            f'<tr data-key="{metric.key}"><th scope=row>{escape(metric.name)}'
            f"<small>{unit}{_BETTER[metric.better]}</small></th>{about}{cells}</tr>"
        )
    return (
        "<h2>Measures</h2><div class=scroll><table><thead><tr><th></th><td class=about></td>"
        f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        "<p><small>Means over all faces and frames; below, their standard deviation.</small></p>"
    )


def _cell(metric: Metric, value: float | None, spread: float | None) -> str:
    if value is None:
        return "<td></td>"
    below = "" if spread is None else f"<small>&plusmn; {metric.shown(spread)}</small>"
    return f"<td>{metric.shown(value)}{below}</td>"


# -- plots over time -----------------------------------------------------------------------------------------------


def _plots(found: Evaluation, roles: Sequence[str]) -> str:
    drawn = []
    for metric in METRICS:
        curves = {r: s.curve() for r in roles if (s := found.series.get((metric.key, r)))}
        curves = {role: curve for role, curve in curves.items() if len(curve) > 1}
        if curves:
            drawn.append(_plot(metric, curves))
    if not drawn:
        return ""
    keys = "".join(
        f'<span class="{r}"><svg viewBox="0 0 32 8"><line class="{r}" x1="0" y1="4" x2="32" y2="4"/></svg>{r}</span>'
        for r in roles
    )
    return f"<h2>Over time</h2><div class=legend>{keys}</div><div class=plots>{''.join(drawn)}</div>"


def _plot(metric: Metric, curves: dict[str, list[tuple[float, float]]]) -> str:
    points = [point for curve in curves.values() for point in curve]
    t0, t1 = min(t for t, _ in points), max(t for t, _ in points)
    low, high = min(v for _, v in points), max(v for _, v in points)
    margin = 0.06 * (high - low) or abs(high) * 0.01 or 1e-6
    low, high = (max(0.0, low - margin) if low >= 0 else low - margin), high + margin
    lines = "".join(_line(role, curve, (t0, t1, low, high)) for role, curve in curves.items())
    unit = f" <small>{escape(metric.unit)}</small>" if metric.unit else ""
    return (
        f'<figure class=plot data-key="{metric.key}"><figcaption>{escape(metric.name)}{unit}</figcaption>'
        f"<div class=area><span class=high>{metric.shown(high)}</span>"
        f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(metric.name)} over time">{lines}</svg>'
        f"<span class=low>{metric.shown(low)}</span>"
        f"<div class=times><span>{_time(t0)}</span><span>{_time(t1)}</span></div></div></figure>"
    )


def _line(role: str, curve: list[tuple[float, float]], box: tuple[float, float, float, float]) -> str:
    """A curve in a box of 1000 by 100; it breaks where there are no faces for long."""
    t0, t1, low, high = box
    steps = sorted(b[0] - a[0] for a, b in pairwise(curve))
    longest = 3 * steps[len(steps) // 2] + 1e-9
    parts: list[list[tuple[float, float]]] = [[]]
    for i, point in enumerate(curve):
        if i and point[0] - curve[i - 1][0] > longest:
            parts.append([])
        parts[-1].append(point)

    def drawn(part: list[tuple[float, float]]) -> str:
        spots = [(1000 * (t - t0) / max(t1 - t0, 1e-9), 100 - 100 * (v - low) / (high - low)) for t, v in part]
        if len(spots) == 1:  # a lone point is a dash, else nothing would show
            ((x, y),) = spots
            spots = [(max(x - 3, 0), y), (min(x + 3, 1000), y)]
        return " ".join(f"{x:.1f},{y:.2f}" for x, y in spots)

    return "".join(f'<polyline class="{role}" points="{drawn(part)}"/>' for part in parts)


# -- faces ---------------------------------------------------------------------------------------------------------


def _tracks(found: Evaluation, roles: Sequence[str]) -> str:
    shown = [track for track in found.tracks if track.samples.items]
    if not shown:
        return "<h2>Faces</h2><p>No face was found.</p>"
    note = ""
    if len(shown) < len(found.tracks):
        note = f"<p class=soft>The {len(shown)} longest of {len(found.tracks)} tracks.</p>"
    return f"<h2>Faces</h2>{note}" + "".join(_track(found, track, roles) for track in shown)


def _track(found: Evaluation, track: Track, roles: Sequence[str]) -> str:
    samples = track.samples.items
    chosen = samples[len(samples) // 2]
    pairs = list(pairwise(roles))
    left, right = pairs[0]
    buttons = "".join(
        f'<button type=button data-left="{a}" data-right="{b}" aria-pressed="{str(i == 0).lower()}">{a} | {b}</button>'
        for i, (a, b) in enumerate(pairs)
    )
    names = "".join(f'<span class="{role}">{role}</span>' for role in roles)
    strips = "".join(_strip(sample, roles, sample is chosen) for sample in samples)
    return (
        f'<section class=track data-track="{track.number}"><header><h3>Face {track.number}</h3>'
        f"<p class=soft>{_time(track.begin)} to {_time(track.end)}, {track.frames} frames</p></header>"
        f"<div><div class=wipe>{_image(chosen, right, 'right')}{_image(chosen, left, 'left')}"
        f"<span>{left}</span><span>{right}</span>"
        f'<input type=range min=0 max=100 value=50 step=0.5 aria-label="wipe"></div>'
        f"<div class=pairs{'' if len(pairs) > 1 else ' hidden'}>{buttons}</div></div>"
        f"<div class=side><div class=samples><div class=names>{names}</div>{strips}</div>"
        f"{_values(found, track, roles)}</div></section>"
    )


def _strip(sample: Sample, roles: Sequence[str], pressed: bool) -> str:
    images = "".join(_image(sample, role, role) for role in roles)
    state = str(pressed).lower()
    return f'<button type=button class=sample aria-pressed="{state}">{images}{_time(sample.seconds)}</button>'


def _image(sample: Sample, role: str, kind: str) -> str:
    data = base64.b64encode(sample.pictures[role]).decode("ascii")
    return f'<img class="{kind}" alt="{role} at {_time(sample.seconds)}" src="data:image/jpeg;base64,{data}">'


def _values(found: Evaluation, track: Track, roles: Sequence[str]) -> str:
    head = "".join(f'<th class="{role}">{role}</th>' for role in roles)
    body = []
    for metric in METRICS:
        values = [found.track_value(track, metric.key, role) for role in roles]
        if metric.key in _OF_TRACK and any(v is not None for v in values):
            cells = "".join(_cell(metric, value, None) for value in values)
            body.append(f'<tr data-key="{metric.key}"><th scope=row>{escape(metric.name)}</th>{cells}</tr>')
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _left_out(found: Evaluation) -> str:
    if not found.left_out:
        return ""
    return (
        "<h2>Left out</h2><ul>" + "".join(f"<li><code>{escape(line)}</code></li>" for line in found.left_out) + "</ul>"
    )


def _footer(found: Evaluation) -> str:
    data: dict[str, Any] = as_dict(found)
    told = f"{escape(data['tool'])}. Flow: {escape(data['flow'])}. Identity: {escape(found.identity)}."
    compare = "Identity and perceptual numbers compare only where the same networks measured them."
    return f"<footer><p>{told} {compare}</p></footer>"


def _time(seconds: float) -> str:
    """M:SS.s"""
    tenths = round(10 * seconds)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"
