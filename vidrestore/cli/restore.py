"""``vidrestore INPUT``: restore one film."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from vidrestore.cli import COMMANDS
from vidrestore.cli.failing import say
from vidrestore.cli.stopping import stop_on_signals
from vidrestore.errors import UsageError
from vidrestore.version import __version__

if TYPE_CHECKING:
    from vidrestore.config import RunConfig

# Single-dash options of ours; every other one is an encoder's, by ffmpeg's name, and takes a value.
OURS: Final = frozenset({"-o", "-p", "-vf", "-ss", "-to", "-y", "-n", "-h"})
_ENCODER_OPTION: Final = re.compile(r"-[A-Za-z][\w:.-]*")

_EPILOG: Final = """\b
Encoder options, by ffmpeg's names, each with a value:
  -c:v CODEC  -crf N  -preset NAME  -pix_fmt FORMAT  -f CONTAINER  -c:a CODEC  -r RATE (of raw streams)
  and every other option of the encoder: -tune film, -g 48, -x264-params aq-mode=3 ...

\b
Other commands:
""" + "\n".join(f"  vidrestore {name:9} {text}" for name, text in COMMANDS.items()) + """

\b
Examples:
  vidrestore old.mp4
  vidrestore old.mp4 --preview 10
  vidrestore old.mp4 -o new.mkv -vf restore=classic:detail=0.5,blend=feather:32 -crf 18
  ffmpeg -i old.mov -map 0 -c copy -f matroska - | vidrestore - -o - | ffplay -
"""  # fmt: skip


class EncoderOptions(click.Command):
    """A command that takes ffmpeg's encoder options beside its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args, ctx.obj = split_encoder_options(args)
        return super().parse_args(ctx, args)


def split_encoder_options(args: list[str]) -> tuple[list[str], dict[str, str]]:
    """Our own arguments, and the encoder's options by name."""
    ours: list[str] = []
    encoder: dict[str, str] = {}
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            return [*ours, arg, *rest], encoder
        known = arg in OURS or any(arg.startswith(o + "=") for o in OURS)
        if arg == "--pix-fmt" or (_ENCODER_OPTION.fullmatch(arg) and not known):
            value = next(rest, None)
            if value is None:
                raise UsageError(arg, "needs a value", "see: vidrestore --help")
            encoder[arg.lstrip("-").replace("pix-fmt", "pix_fmt")] = value
        else:
            ours.append(arg)
            if known and arg not in ("-y", "-n", "-h"):
                ours.extend([value] if (value := next(rest, None)) is not None else [])
    return ours, encoder


class Seconds(click.ParamType[float]):
    """A time as ffmpeg writes it: 12.5, 1:02.5 or 0:01:02.5."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", value):
            self.fail(f"'{value}' is no time; write seconds or H:MM:SS", param, ctx)
        seconds = 0.0
        for part in value.split(":"):
            seconds = seconds * 60 + float(part)
        return seconds


_RUN_FLAGS: Final = (
    click.argument("source", metavar="INPUT"),
    click.option("-o", "--output", "target", metavar="FILE", help="output; '-' is a pipe  [INPUT.restored.*]"),
    click.option("-p", "--use", "preset", metavar="PRESET", help="a preset by name, or a TOML file  [default]"),
    click.option("-vf", "--chain", "chain", metavar="CHAIN", help="steps as in ffmpeg: restore=classic,blend=feather"),
    click.option("--config", "config_file", type=click.Path(path_type=Path), help="a TOML file of your own values"),
    click.option("-ss", "start", type=Seconds(), help="begin here"),
    click.option("-to", "end", type=Seconds(), help="end here"),
    click.option("--gate", type=click.Choice(["on", "warn", "off"]), help="hold back faces not good enough  [on]"),
    click.option("--faces", metavar="WHICH", help="all, largest, or numbers of 'vidrestore faces': 0+3  [all]"),
    click.option("--region", metavar="X+Y+W+H", help="only faces whose middle lies in these px"),
    click.option("--scale", type=float, metavar="N", help="first make the picture N times as large"),
    click.option("--seed", type=int, help="of all random numbers  [0]"),
    click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps  [auto]"),
    click.option(
        "--progress", type=click.Choice(["auto", "json", "none"]), default="auto", help="how to tell it  [auto]"
    ),
    click.option("--strict", is_flag=True, default=None, help="stop at the first fault of the input"),
    click.option("--keep-going", is_flag=True, default=None, help="an input that breaks off counts as success"),
    click.option("--assume-color", metavar="COLOR", help="of untagged films, e.g. bt709:limited"),
    click.option(
        "--field", "field_order", type=click.Choice(["tff", "bff", "progressive"]), help="of wrongly flagged films"
    ),
    click.option(
        "--interlace",
        type=click.Choice(["fields", "woven"]),
        help="faces of interlaced films: field by field, or as frames are  [fields]",
    ),
    click.option("--deinterlace", is_flag=True, help="make a frame of every field of interlaced films"),
    click.option("--video-stream", type=int, metavar="N", help="which film of the file, from 0  [the largest]"),
    click.option("--allow-network", is_flag=True, default=None, help="INPUT may be an address"),
    click.option("--allow-playlists", is_flag=True, default=None, help="INPUT may be a list of other files"),
    click.option("--pad-even", is_flag=True, default=None, help="pad odd sizes for encoders that need even ones"),
    click.option("--drop-alpha", is_flag=True, default=None, help="let opacity go where the encoder has none"),
    click.option("--set", "assigned", multiple=True, metavar="KEY=VALUE", help="a setting of 'vidrestore config show'"),
    click.option("--debug", is_flag=True, help="show tracebacks"),
)


def run_flags(command: Any) -> Any:
    """The input and all flags that say what a run does."""
    for flag in reversed(_RUN_FLAGS):
        command = flag(command)
    return command


def run_config(
    encoder: dict[str, str],
    *,
    preset: str | None,
    chain: str | None,
    config_file: Path | None,
    gate: str | None,
    faces: str | None,
    region: str | None,
    scale: float | None,
    deinterlace: bool,
    assigned: tuple[str, ...],
    **settings: Any,
) -> RunConfig:
    """What these flags ask for; ``settings`` are those that have a flag of their own."""
    from vidrestore.config import resolve

    flags_of = {"gate": {"mode": gate}, "align": {"faces": faces, "region": region}}
    return resolve(
        preset=preset, chain=chain, settings=settings | assignments(assigned), encoder=encoder,
        config_file=config_file, flags_of=flags_of, scale=scale, deinterlace=deinterlace,
    )  # fmt: skip


@click.command(
    cls=EncoderOptions,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=_EPILOG,
)
@run_flags
@click.option(
    "--preview", type=float, metavar="SECONDS", help="only so much, from -ss or the middle, as INPUT.preview.*"
)
@click.option(
    "--compare", type=click.Choice(["side", "wipe"]), help="write source and result in one picture, as INPUT.compare.*"
)
@click.option("--like", "picture", metavar="PICTURE", help="only the faces that are like the one in this picture")
@click.option("-y", "overwrite", is_flag=True, help="replace an existing output")
@click.option("-n", "skip", is_flag=True, help="skip when the output exists")
@click.option("--report", type=click.Path(path_type=Path), help="where the run record goes  [OUTPUT.json]")
@click.option("--masks", type=click.Path(path_type=Path), help="a film of what was blended where: FILE.mkv")
@click.option("--keep-partial", is_flag=True, default=None, help="leave an unfinished output when stopped")
@click.option(
    "--on-change",
    type=click.Choice(["scale", "split"]),
    help="pictures of another size or format on the way: scale them, or begin FILE.part002.*  [scale]",
)
@click.option("--fallback-encoder", metavar="CODEC", help="start over with this one where the encoder fails")
@click.option("--preserve", is_flag=True, default=None, help="give the output the time and mode of INPUT's file")
@click.option("--stamp", is_flag=True, default=None, help="write the time of the run into the output")
@click.version_option(__version__, prog_name="vidrestore")
@click.pass_obj
def command(
    encoder: dict[str, str],
    /,
    source: str,
    target: str | None,
    preview: float | None,
    compare: Any,
    picture: str | None,
    overwrite: bool,
    skip: bool,
    report: Path | None,
    masks: Path | None,
    progress: str,
    debug: bool,
    **flags: Any,
) -> None:
    """Restore the faces of a film. Everything else stays as it is: sound, subtitles, times, colours.

    Without -o the result lies beside INPUT as INPUT.restored.*, with a run record INPUT.restored.*.json.
    """
    if overwrite and skip:
        raise UsageError("-y -n", "replace or skip, not both")
    if source == "-" and sys.stdin.isatty():
        raise UsageError("-", "standard input is a terminal", "pipe a film into it, or name a file")
    from vidrestore.notes import Notes

    notes = Notes(lambda line: say(f"warning: {line}"))
    if preview is not None:
        if flags["end"] is not None:
            raise UsageError("--preview -to", "both say where to end; give one")
        from vidrestore.engine.preview import span

        flags["start"], flags["end"] = span(source, preview, flags["start"], notes)
    if picture is not None and flags["faces"] is not None:
        raise UsageError("--like --faces", "both say whose faces; give one")
    if picture is not None and source == "-":
        raise UsageError("--like", "a film is read twice for it", "name a file")
    config = run_config(encoder, **flags)
    stop_on_signals()
    from vidrestore.cli.progress import teller
    from vidrestore.engine.job import COMPARING, PREVIEWING, RESTORING, Job, run

    if picture is not None:
        from vidrestore.engine.likeness import numbers_like

        with teller(progress, source) as tell:
            flags["faces"] = numbers_like(source, picture, config, notes, tell)
        say(f"faces like {picture}: {flags['faces']}")
        config = run_config(encoder, **flags)
    work = COMPARING if compare else RESTORING if preview is None else PREVIEWING
    job = Job(
        source, target, config, overwrite=overwrite, skip_existing=skip, report=report, masks=masks, work=work,
        compare=compare,
    )  # fmt: skip
    with teller(progress, source) as tell:
        try:
            record = run(job, notes, tell)
        finally:
            for note in notes.all():
                if note.count > 1 and not note.quiet:
                    say(f"warning: {note.subject}: {note.text} ({note.count} times)")
    tell.done(record)


def assignments(pairs: tuple[str, ...]) -> dict[str, str]:
    """``--set key=value`` as a table."""
    found = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise UsageError("--set", f"'{pair}' is no KEY=VALUE", "e.g. --set batch=8")
        found[key.strip().replace("-", "_")] = value.strip()
    return found
