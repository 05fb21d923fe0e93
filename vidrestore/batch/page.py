"""A batch as one page: every film, failures first, with a picture to wipe. It needs no network."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from vidrestore.batch.previews import FOLDER, KINDS
from vidrestore.batch.store import FOLDER as STORE
from vidrestore.engine.record import NOTICE
from vidrestore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Row = dict[str, Any]
# Heading, key of the row, whether it is text.
_COLUMNS: Final = (
    ("", "", True), ("State", "state", True), ("Film", "output", True), ("Frames", "frames", False),
    ("Changed", "changed", False), ("Faces", "faces", False), ("Held back", "held_back", False),
    ("Warnings", "notes", False), ("Seconds", "seconds", False), ("MB", "size", False),
)  # fmt: skip


def page(out: Path, found: Sequence[Row], counts: dict[str, int]) -> str:
    """The whole page as HTML. It lies in ``out``; pictures are read from the store beside it."""
    template = Template(files("vidrestore.batch").joinpath("page.html").read_text("utf-8"))
    name = escape(out.absolute().name)
    return template.substitute(title=f"{name}: batch", body="\n".join([_header(name, counts), _table(out, found)]))


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
    told = f"vidrestore {__version__}. {NOTICE} A picture shows the frame in which most was changed; a click wipes it."
    table = f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    return f"{table}<footer><p>{escape(told)}</p></footer>"


def _row(out: Path, row: Row, order: int) -> str:
    state = row["state"]
    reason = f'<small class="{state}">{escape(row["reason"])} (code {row["code"]})</small>' if row["reason"] else ""
    film = _link(row) if state in ("done", "partial") else escape(row["output"])
    cells = [
        f"<td>{_picture(out, row)}</td>",
        f'<td class="{state}" data-value="{order}">{state}</td>',
        f'<td data-value="{escape(row["output"])}">{film}<small>{escape(row["source"])}</small>{reason}</td>',
    ]
    for _, key, _text in _COLUMNS[3:]:
        value = row.get(key)
        cells.append(f'<td data-value="{-1 if value is None else value}">{_shown(key, value)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _link(row: Row) -> str:
    href = escape(quote(row["output"]))
    return f'<a href="{href}">{escape(row["output"])}</a> <a href="{href}.json">record</a>'


def _picture(out: Path, row: Row) -> str:
    paths = {kind: f"{STORE}/{FOLDER}/{row['id']}.{kind}.jpg" for kind in KINDS}
    if not all((out / path).is_file() for path in paths.values()):
        return ""
    data = " ".join(f'data-{kind}="{path}"' for kind, path in paths.items())
    name = escape(row["output"])
    return (
        f'<button type=button data-name="{name}" {data}><img loading=lazy alt="{name}" src="{paths["after"]}"></button>'
    )


def _shown(key: str, value: Any) -> str:
    if value is None:
        return ""
    scale = {"size": 1e6, "seconds": 1.0}.get(key)
    return f"{value:.0f}" if scale is None else f"{value / scale:.1f}"
