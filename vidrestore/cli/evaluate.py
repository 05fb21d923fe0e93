"""``vidrestore evaluate``: how good a restored film is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidrestore.cli.failing import say
from vidrestore.cli.restore import Seconds
from vidrestore.cli.stopping import stop_on_signals
from vidrestore.errors import OutputError, UsageError

if TYPE_CHECKING:
    from vidrestore.quality.evaluate import Who
    from vidrestore.quality.result import Evaluation

_PATH: Any = click.Path(path_type=Path)
_MOBILE = ".safetensors"
_EPILOG = """\b
Examples:
  vidrestore evaluate old.restored.mp4 --source old.mp4
  vidrestore evaluate out.mkv --reference clean.mp4 --source bad.mp4 --html report.html

docs/evaluate.md says what each measure is, its unit, and which way is better.
"""


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=_EPILOG,
)
@click.argument("restored", metavar="RESTORED")
@click.option("--reference", metavar="FILM", help="the truth: the same film undamaged")
@click.option("--source", metavar="FILM", help="what was restored")
@click.option("--json", "json_path", type=_PATH, metavar="FILE", help="write every number, and curves over time")
@click.option("--html", "html_path", type=_PATH, metavar="FILE", help="write one page: table, plots, faces to wipe")
@click.option("--embedder", metavar="NAME", help="who a face is: an embed plugin, or MobileFaceNet's .safetensors")
@click.option("--side", type=click.IntRange(128, 512), default=256, metavar="PX", help="of the aligned crops  [256]")
@click.option("-ss", "start", type=Seconds(), help="begin here")
@click.option("-to", "end", type=Seconds(), help="end here")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps  [auto]")
@click.option("-y", "overwrite", is_flag=True, help="replace existing reports")
@click.option("--progress", type=click.Choice(["auto", "json", "none"]), default="auto", help="how to tell it  [auto]")
@click.option("--debug", is_flag=True, help="show tracebacks")
def command(
    restored: str,
    reference: str | None,
    source: str | None,
    json_path: Path | None,
    html_path: Path | None,
    embedder: str | None,
    side: int,
    overwrite: bool,
    progress: str,
    debug: bool,
    **settings: Any,
) -> None:
    """Measure a restored film against its reference, its source, or both.

    Faces are found and followed in the reference (or the source), cut out of all films alike, and compared: nearness,
    identity, landmarks, steadiness, seams. The films must have the same frames and the same size.
    """
    given = {"restored": restored, "reference": reference, "source": source}
    paths = {role: path for role, path in given.items() if path}
    if len(paths) == 1:
        raise UsageError("evaluate", "nothing to measure against", "give --reference FILM, --source FILM or both")
    if "-" in paths.values():
        raise UsageError("-", "films are compared from files", "write it to a file first")
    for path in (json_path, html_path):
        if path is not None and path.exists() and not overwrite:
            raise OutputError(str(path), "exists", "use -y to replace it")
    from vidrestore.cli.progress import teller
    from vidrestore.config import resolve
    from vidrestore.notes import Notes

    config = resolve(chain=_chain(embedder), settings=settings)
    stop_on_signals()
    from vidrestore.quality.evaluate import evaluate
    from vidrestore.quality.page import page
    from vidrestore.quality.report import as_json, write

    notes = Notes(lambda line: say(f"warning: {line}"))
    who = _mobile(embedder)
    with teller(progress, restored) as tell:
        found = evaluate(paths, config, notes, who=who, side=side, tell=tell)
    _show(found)
    for path, text in ((json_path, as_json), (html_path, page)):
        if path is not None:
            write(path, text(found))


def _chain(embedder: str | None) -> str | None:
    """The step that says who a face is; MobileFaceNet's file is no plugin."""
    return None if embedder is None or embedder.endswith(_MOBILE) else f"embed={embedder}"


def _mobile(embedder: str | None) -> Who | None:
    if embedder is None or not embedder.endswith(_MOBILE):
        return None
    from vidrestore.train.embedder import load_embedder, on_template

    net = load_embedder(Path(embedder))
    return lambda crops: net(on_template(crops, side=crops.shape[-1]))[0]


def _show(found: Evaluation) -> None:
    """The table on standard output; what was left out on standard error."""
    from rich.console import Console
    from rich.table import Table

    from vidrestore.quality.metrics import ROLES
    from vidrestore.quality.report import counts, rows

    roles, all_rows = [role for role in ROLES if role in found.paths], rows(found)
    with_ratio = any(row.ratio is not None for row in all_rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for title in (*roles, *(["ratio"] if with_ratio else [])):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("unit", style="dim", no_wrap=True)
    table.add_column("better", style="dim", no_wrap=True)
    for row in all_rows:
        numbers = [row.values.get(role) for role in roles] + ([row.ratio] if with_ratio else [])
        shown = ["" if value is None else row.metric.shown(value) for value in numbers]
        table.add_row(row.metric.name, *shown, row.metric.unit, _BETTER[row.metric.better])
    Console().print(table)
    click.echo(counts(found))
    for line in found.left_out:
        say(line)


_BETTER = {"more": "higher", "less": "lower", "one": "near 1"}
