"""A batch as one page: every film, failures first, with a picture to wipe and how it went over time. It needs no
network."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from vidrestore.batch.previews import FOLDER, KINDS
from vidrestore.batch.store import FOLDER as STORE
from vidrestore.engine.record import NOTICE
from vidrestore.quality.sheet import plot, sheet
from vidrestore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vidrestore.quality.sheet import Curve

Row = dict[str, Any]
# Heading, key of the row, whether it is text.
_COLUMNS: Final = (
    ("", "", True), ("State", "state", True), ("Film", "output", True), ("Frames", "frames", False),
    ("Changed", "changed", False), ("Faces", "faces", False), ("Held back", "held_back", False),
    ("Likeness", "likeness", False), ("Warnings", "notes", False), ("Seconds", "seconds", False), ("MB", "size", False),
)  # fmt: skip
# What is drawn over time: heading, unit, by the name of the curve its column in the record's course, ends of the axis.
_PLOTS: Final[tuple[tuple[str, str, dict[str, str], tuple[float, float] | None], ...]] = (
    ("Likeness", "cosine", {"mean": "identity", "worst": "least_identity"}, None),
    ("Flicker", "times the source's", {"mean": "flicker", "worst": "most_flicker"}, None),
    ("Shown", "least share", {"mean": "share"}, (0.0, 1.0)),
    ("Faces", "changed a second", {"mean": "faces"}, None),
)
_POINTS: Final = 240  # of a curve
_MEANS: Final = ("identity", "flicker", "faces")
_DIALOG: Final = (
    '<dialog><h2></h2><div class="wipe"><img class="right" alt="after"><img class="left" alt="before">'
    '<span>before</span><span>after</span><input type="range" min="0" max="100" value="50" step="0.5" '
    'aria-label="wipe"></div><div class="course"></div><form method="dialog"><button>Close</button></form></dialog>'
)


def page(out: Path, found: Sequence[Row], counts: dict[str, int]) -> str:
    """The whole page as HTML. It lies in ``out``; pictures are read from the store beside it."""
    name = escape(out.absolute().name)
    body = "\n".join([_header(name, counts), _table(out, found), _DIALOG])
    return sheet(f"{name}: batch", body, own="vidrestore.batch", images="file: http: https:")


def _header(name: str, counts: dict[str, int]) -> str:
    told = ", ".join(f"{n} {state}" for state, n in counts.items())
    share = "".join(
        f'<span class="{state}" style="flex:{n}" title="{n} {state}"></span>' for state, n in counts.items()
    )
    return f"<header><h1>{name}</h1><p>{told or 'no film'}</p><div class=share>{share}</div></header>"


def _table(out: Path, found: Sequence[Row]) -> str:
    head = "".join(
        f"<th{' data-text' if text else ''}>" + (f"<button type=button>{title}</button>" if title else "") + "</th>"
        for title, _, text in _COLUMNS
    )
    order = {state: i for i, state in enumerate(dict.fromkeys(row["state"] for row in found))}
    body = "".join(_row(out, row, order[row["state"]]) for row in found)
    told = (
        f"vidrestore {__version__}. {NOTICE} A picture shows the frame in which most was changed; a click opens it and "
        "what the gate measured. Solid lines are means of a second, dashed ones its worst frame. Likeness is the least "
        "cosine between a restored face and the source's."
    )
    table = f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    return f"{table}<footer><p>{escape(told)}</p></footer>"


def _row(out: Path, row: Row, order: int) -> str:
    state = row["state"]
    published = state in ("done", "partial")
    course = _course(out, row) if published else []
    likeness = [one["least_identity"] for one in course if one["least_identity"] is not None]
    row = row | {"likeness": min(likeness, default=None)}
    reason = f'<small class="{state}">{escape(row["reason"])} (code {row["code"]})</small>' if row["reason"] else ""
    film = _link(row) if published else escape(row["output"])
    cells = [
        f"<td>{_picture(out, row, course)}</td>",
        f'<td class="{state}" data-value="{order}">{state}</td>',
        f'<td data-value="{escape(row["output"])}">{film}<small>{escape(row["source"])}</small>{reason}</td>',
    ]
    for _, key, _text in _COLUMNS[3:]:
        value = row.get(key)
        cells.append(f'<td data-value="{-1 if value is None else value}">{_shown(key, value)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _link(row: Row) -> str:
    href = escape(quote(row["output"]))
    masks = f' <a href="{escape(quote(row["output"]))}.masks.mkv">masks</a>' if row.get("masks") else ""
    return f'<a href="{href}">{escape(row["output"])}</a> <a href="{href}.json">record</a>{masks}'


def _picture(out: Path, row: Row, course: Sequence[Row]) -> str:
    paths = {kind: f"{STORE}/{FOLDER}/{row['id']}.{kind}.jpg" for kind in KINDS}
    if not all((out / path).is_file() for path in paths.values()):
        return ""
    data = " ".join(f'data-{kind}="{path}"' for kind, path in paths.items())
    name = escape(row["output"])
    image = f'<img loading=lazy alt="{name}" src="{paths["after"]}">'
    return f'<button type=button data-name="{name}" {data}>{image}</button><template>{_plots(course)}</template>'


def _shown(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key == "likeness":
        return f"{value:.2f}"
    scale = {"size": 1e6, "seconds": 1.0}.get(key)
    return f"{value:.0f}" if scale is None else f"{value / scale:.1f}"


# -- over time -----------------------------------------------------------------------------------------------------


def _course(out: Path, row: Row) -> list[Row]:
    """How a film went, from its record; nothing where that is gone."""
    try:
        found = json.loads((out / f"{row['output']}.json").read_text("utf-8"))["course"]
        return [dict(zip(found["columns"], values, strict=True)) for values in found["rows"]]
    except (OSError, ValueError, KeyError):
        return []


def _plots(course: Sequence[Row]) -> str:
    drawn = []
    for title, unit, columns, span in _PLOTS:
        curves = {name: _curve(course, column) for name, column in columns.items()}
        curves = {name: curve for name, curve in curves.items() if len(curve) > 1}
        if curves:
            drawn.append(plot(title.lower(), title, unit, curves, lambda value: f"{value:.3g}", span))
    return f"<div class=plots>{''.join(drawn)}</div>" if drawn else ""


def _curve(course: Sequence[Row], column: str) -> Curve:
    """A column over the seconds; of a long film the mean, or the worst, of as many as one point stands for."""
    points = [(float(row["second"]), float(row[column])) for row in course if row[column] is not None]
    size = -(-len(points) // _POINTS)
    merge = {"most_flicker": max}.get(column, _mean if column in _MEANS else min)
    parts = [points[i : i + size] for i in range(0, len(points), max(size, 1))]
    return [(part[0][0], merge([value for _, value in part])) for part in parts]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
