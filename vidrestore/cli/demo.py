"""``vidrestore demo``: what it does, shown on a clip that comes with it."""

from __future__ import annotations

from pathlib import Path

import click

from vidrestore.cli.failing import say
from vidrestore.errors import OutputError

NAMES = ("demo.damaged.mp4", "demo.restored.mp4", "demo.compared.mp4")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-o", "folder", type=click.Path(path_type=Path), default=Path(), metavar="DIR", help="where to  [this folder]"
)
@click.option("-y", "overwrite", is_flag=True, help="replace the files of an earlier demonstration")
@click.option("--debug", is_flag=True, help="show tracebacks")
def command(folder: Path, overwrite: bool, debug: bool) -> None:
    """Make a short damaged film of a NASA portrait, restore it by the default preset, and compare the two."""
    if not folder.is_dir():
        raise OutputError(str(folder), "no such folder", "make it first")
    damaged, restored, compared = (folder / name for name in NAMES)
    for target in (damaged, restored, compared):
        if target.exists() and not overwrite:
            raise OutputError(str(target), "exists", "use -y to replace it, or -o DIR")
    from vidrestore.cli.progress import teller
    from vidrestore.config import resolve
    from vidrestore.demo import clip
    from vidrestore.engine.job import Job, run
    from vidrestore.media.making import read_frames, write_film
    from vidrestore.notes import Notes

    write_film(damaged, clip.damaged(), clip.RATE, clip.tone(), clip.SOUND_RATE, overwrite=overwrite)
    notes = Notes(lambda line: say(f"warning: {line}"))
    with teller("auto", str(damaged)) as tell:
        run(Job(str(damaged), str(restored), resolve(), overwrite=overwrite), notes, tell)
    pair = clip.compared(read_frames(damaged), read_frames(restored))
    write_film(compared, pair, clip.RATE, clip.tone(), clip.SOUND_RATE, overwrite=overwrite)
    click.echo(f"{damaged}: a portrait of NASA's, soft and noisy, coded as on an old video disc")
    click.echo(f"{restored}: its face restored, its sound as it was; {restored.name}.json tells what was done")
    click.echo(f"{compared}: damaged at the left, restored at the right, twice as large: look at eyes and skin")
