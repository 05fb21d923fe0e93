"""What was measured as one page: a table, plots over time, and faces to wipe between films. It needs no network."""

from __future__ import annotations

import base64
import json
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vidrestore.quality.metrics import METRICS, ROLES
from vidrestore.quality.report import as_dict, counts, rows
from vidrestore.quality.sheet import clock, plot, sheet

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
    parts.append(f'<script type="application/json" id="data">{data}</script>')
    body = "\n".join(parts)
    return sheet(f"{name}: quality", body, own="vidrestore.quality", images="data:", films=len(roles))


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
            drawn.append(plot(metric.key, metric.name, metric.unit or "", curves, metric.shown))
    if not drawn:
        return ""
    keys = "".join(
        f'<span class="{r}"><svg viewBox="0 0 32 8"><line class="{r}" x1="0" y1="4" x2="32" y2="4"/></svg>{r}</span>'
        for r in roles
    )
    return f"<h2>Over time</h2><div class=legend>{keys}</div><div class=plots>{''.join(drawn)}</div>"


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
        f"<p class=soft>{clock(track.begin)} to {clock(track.end)}, {track.frames} frames</p></header>"
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
    return f'<button type=button class=sample aria-pressed="{state}">{images}{clock(sample.seconds)}</button>'


def _image(sample: Sample, role: str, kind: str) -> str:
    data = base64.b64encode(sample.pictures[role]).decode("ascii")
    return f'<img class="{kind}" alt="{role} at {clock(sample.seconds)}" src="data:image/jpeg;base64,{data}">'


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
