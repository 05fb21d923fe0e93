"""``vidrestore plan``: what a run will do and cost, without doing it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from vidrestore.cli.failing import say
from vidrestore.cli.restore import EncoderOptions, run_config, run_flags
from vidrestore.cli.stopping import stop_on_signals

if TYPE_CHECKING:
    from vidrestore.engine.outlook import Outlook

_UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


@click.command(cls=EncoderOptions, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@run_flags
@click.option("--json", "as_json", is_flag=True, help="for programs")
@click.pass_obj
def command(
    encoder: dict[str, str],
    /,
    source: str,
    target: str | None,
    progress: str,
    debug: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """What a run with these flags will do: streams, encoder, chain, faces, time, memory, disk.

    Two dozen pictures from all over the film are searched for faces, and two seconds of it are worked for real and
    thrown away. Nothing is written.
    """
    from vidrestore.cli.progress import teller
    from vidrestore.notes import Notes

    notes = Notes()
    config = run_config(encoder, **flags)
    stop_on_signals()
    from vidrestore.engine.outlook import outlook

    with teller(progress, source) as tell:
        plan = outlook(source, target, config, notes, tell)
    for line in plan.warnings:
        say(f"warning: {line}")
    if as_json:
        click.echo(json.dumps(plan.as_dict(), indent=1))
    else:
        _show(plan)


def _show(plan: Outlook) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in _rows(plan):
        table.add_row(title, text)
    Console().print(table, markup=False)


def _rows(plan: Outlook) -> list[tuple[str, str]]:
    out, looked = plan.output, plan.looked
    coded = " ".join(f"-{key} {value}" for key, value in out["options"].items())
    faces = f"in {looked.with_faces} of {looked.pictures} pictures (decode={looked.by})"
    if looked.width is not None:
        faces += f", {looked.faces:.1f} a picture"
        faces += f", {looked.width:.0f} px wide ({looked.smallest:.0f} to {looked.largest:.0f})"
    rows = [
        ("output", plan.target + (f": would be refused, it {plan.refused}" if plan.refused else "")),
        ("container", out["container"]),
        ("picture", f"{out['encoder']} {out['pix_fmt']} {coded}".rstrip()),
        *((("streams" if i == 0 else ""), text) for i, text in enumerate(out["streams"])),
        ("chain", plan.chain),
        ("device", plan.device),
        ("faces", faces),
    ]
    if plan.strength is not None:
        rows.append(("strength", f"{plan.strength:.2f} on average, where it was tried"))
    if plan.per_second is not None:
        takes = f"about {_span(plan.takes)}, " if plan.takes is not None else "length not known, "
        rows.append(("time", f"{takes}{plan.per_second:.1f} frames a second"))
    rows.append(("memory", f"about {_size(plan.memory)}"))
    disk = f"about {_size(plan.disk)}, " if plan.disk is not None else ""
    rows.append(("disk", f"{disk}{_size(plan.free)} free"))
    return rows


def _span(seconds: float | None) -> str:
    whole = round(seconds or 0)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole // 60 % 60} min"


def _size(nbytes: int) -> str:
    for unit, name in _UNITS:
        if nbytes >= unit:
            return f"{nbytes / unit:.1f} {name}"
    return f"{nbytes} B"
