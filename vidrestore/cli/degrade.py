"""``vidrestore degrade``: a film as bad footage would show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vidrestore import registry
from vidrestore.cli.failing import say
from vidrestore.cli.restore import EncoderOptions, Seconds
from vidrestore.cli.stopping import stop_on_signals

UNTOUCHED = "assess=none,restore=none,smooth=none,blend=none"


@click.command(cls=EncoderOptions, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("source", metavar="INPUT")
@click.option("-o", "--output", "target", metavar="FILE", help="output; '-' is a pipe  [INPUT.degraded.*]")
@click.option("--model", default="classic", metavar="NAME", help="which degrader  [classic]")
@click.option("--preset", metavar="NAME", help="of classic: mild, medium, heavy, old-film, vhs  [medium]")
@click.option("--set", "assigned", multiple=True, metavar="KEY=VALUE", help="any option of 'vidrestore plugins NAME'")
@click.option("-ss", "start", type=Seconds(), help="begin here")
@click.option("-to", "end", type=Seconds(), help="end here")
@click.option("--seed", type=int, help="of the damage: another seed, another tape  [0]")
@click.option("-y", "overwrite", is_flag=True, help="replace an existing output")
@click.option("--report", type=click.Path(path_type=Path), help="where the run record goes  [OUTPUT.json]")
@click.option("--progress", type=click.Choice(["auto", "json", "none"]), default="auto", help="how to tell it  [auto]")
@click.option("--debug", is_flag=True, help="show tracebacks")
@click.pass_obj
def command(
    encoder: dict[str, str],
    /,
    source: str,
    target: str | None,
    model: str,
    preset: str | None,
    assigned: tuple[str, ...],
    overwrite: bool,
    report: Path | None,
    progress: str,
    debug: bool,
    **settings: Any,
) -> None:
    """Damage a film on purpose: the same frames at the same times, sound and all else as they were.

    One damage is drawn for the whole film, noise anew for each frame; then the film goes through a real codec at a low
    bit rate. For training, and for measuring what a restoration brings back.
    """
    from vidrestore.cli.restore import assignments
    from vidrestore.config import resolve

    options = assignments(assigned) | ({"preset": preset} if preset else {})
    plugin = made(model, options)
    config = resolve(
        chain=plugin.chain or UNTOUCHED, settings=settings, encoder=encoder, flags_of={"gate": {"mode": "off"}}
    )
    stop_on_signals()
    from vidrestore.cli.progress import teller
    from vidrestore.degrading import Degrading
    from vidrestore.engine.job import Job, run
    from vidrestore.notes import Notes

    notes = Notes(lambda line: say(f"warning: {line}"))
    work = Degrading(model, plugin, plugin.options.model_dump(mode="json")).work()
    with teller(progress, source) as tell:
        record = run(Job(source, target, config, overwrite=overwrite, report=report, work=work), notes, tell)
    tell.done(record)


def made(name: str, given: dict[str, str]) -> Any:
    """The degrader with these options. Raises ChainError in one line."""
    from vidrestore.chain import Arg
    from vidrestore.options import read

    plugin = registry.find("degrade", name)
    args = tuple(Arg(value, key) for key, value in given.items())
    return plugin(read(registry.options_of(plugin), f"degrade={name}", args, {}))
