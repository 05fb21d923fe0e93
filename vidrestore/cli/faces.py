"""``vidrestore faces``: who is in a film."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidrestore.cli.failing import say
from vidrestore.cli.restore import Seconds
from vidrestore.cli.stopping import stop_on_signals
from vidrestore.errors import OutputError

if TYPE_CHECKING:
    from vidrestore.engine.survey import Seen

_PATH: Any = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("source", metavar="INPUT")
@click.option("--json", "json_path", type=_PATH, metavar="FILE", help="write the list for programs; '-' prints it")
@click.option("--html", "html_path", type=_PATH, metavar="FILE", help="write one page with a picture of each")
@click.option("-p", "--use", "preset", metavar="PRESET", help="a preset by name, or a TOML file  [default]")
@click.option("-vf", "--chain", "chain", metavar="CHAIN", help="steps, as for the run whose faces are wanted")
@click.option("--like", "picture", metavar="PICTURE", help="say how much each face is like the one in this picture")
@click.option("--region", metavar="X+Y+W+H", help="only faces whose middle lies in these px")
@click.option("-ss", "start", type=Seconds(), help="begin here; numbers are those of a run that begins here, too")
@click.option("-to", "end", type=Seconds(), help="end here")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps  [auto]")
@click.option("-y", "overwrite", is_flag=True, help="replace existing lists")
@click.option("--progress", type=click.Choice(["auto", "json", "none"]), default="auto", help="how to tell it  [auto]")
@click.option("--debug", is_flag=True, help="show tracebacks")
def command(
    source: str,
    json_path: Path | None,
    html_path: Path | None,
    preset: str | None,
    chain: str | None,
    picture: str | None,
    region: str | None,
    overwrite: bool,
    progress: str,
    debug: bool,
    **settings: Any,
) -> None:
    """List a film's faces: number, times, size. A run restores some of them with --faces and their numbers.

    A face has one number in each shot it is in. Numbers belong to the film and its detection: the same chain and the
    same -ss give the same.
    """
    stdout = json_path is not None and str(json_path) == "-"
    for path in (json_path, html_path):
        if path is not None and str(path) != "-" and path.exists() and not overwrite:
            raise OutputError(str(path), "exists", "use -y to replace it")
    from vidrestore.cli.progress import teller
    from vidrestore.config import resolve
    from vidrestore.notes import Notes

    notes = Notes(lambda line: say(f"warning: {line}"))
    config = resolve(preset=preset, chain=chain, settings=settings, flags_of={"align": {"region": region}})
    stop_on_signals()
    from vidrestore.engine.likeness import likeness
    from vidrestore.engine.survey import survey
    from vidrestore.quality.cast import page
    from vidrestore.quality.report import write

    with teller(progress, source) as tell:
        found = survey(source, config, notes, tell)
    if picture is not None:
        for face, cosine in zip(found, likeness(found, picture, config, notes), strict=True):
            face.alike = cosine
        found.sort(key=lambda face: -(face.alike or 0.0))
    listed = json.dumps({"source": source, "chain": config.chain, "faces": [f.as_dict() for f in found]}, indent=1)
    if stdout:
        click.echo(listed)
    else:
        _show(found)
        if json_path is not None:
            write(json_path, listed + "\n")
    if html_path is not None:
        write(html_path, page(source, found))


def _show(found: list[Seen]) -> None:
    from rich.console import Console
    from rich.table import Table

    from vidrestore.quality.cast import clock

    table = Table(box=None, pad_edge=False, header_style="bold")
    compared = any(f.alike is not None for f in found)
    for title in ("face", "from", "to", "frames", "width px", "score", "shot", *(["alike"] if compared else [])):
        table.add_column(title, justify="right", no_wrap=True)
    for f in found:
        told = [str(f.number), clock(f.first), clock(f.last), str(f.frames), f"{f.width:.0f}", f"{f.score:.2f}"]
        table.add_row(*told, str(f.shot), *([] if f.alike is None else [f"{f.alike:.2f}"]))
    Console().print(table)
    click.echo(f"{len(found)} face{'s' * (len(found) != 1)}")
