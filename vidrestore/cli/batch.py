"""``vidrestore batch``: restore a tree of films, for days, and lose nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidrestore.cli.failing import say
from vidrestore.cli.restore import EncoderOptions, Seconds, assignments
from vidrestore.cli.stopping import stop_on_signals
from vidrestore.errors import UsageError, printable

if TYPE_CHECKING:
    from vidrestore.batch.store import Store

_PATH: Any = click.Path(path_type=Path)
_SETTINGS: Any = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_EPILOG = """\b
Examples:
  vidrestore batch run tapes/ -o restored/ --keep-going
  vidrestore batch run tapes/ -o restored/ -p archive --dry-run
  vidrestore batch run films.csv -o restored/ --workers 2
  vidrestore batch status restored/
  vidrestore batch report restored/

docs/archives.md says what is kept, what is written beside a film, and how a manifest looks.
"""


def _of_running(command: Any) -> Any:
    """The options of whatever works on a batch."""
    for option in (
        click.option("--debug", is_flag=True, help="show tracebacks"),
        click.option(
            "--progress", type=click.Choice(["auto", "json", "none"]), default="auto", help="how to tell it  [auto]"
        ),
        click.option(
            "--stall", type=click.FloatRange(1), default=300, metavar="S", help="seconds without a frame  [300]"
        ),
        click.option(
            "--retries", type=click.IntRange(0, 100), default=2, metavar="N", help="after faults that may pass  [2]"
        ),
        click.option("--ray", metavar="ADDRESS", help="workers in a Ray cluster: auto, or HOST:PORT of its head"),
        click.option(
            "--workers", type=click.IntRange(1, 256), metavar="N", help="processes  [1; with --ray one a GPU]"
        ),
    ):
        command = option(command)
    return command


@click.group(context_settings=_SETTINGS, epilog=_EPILOG, no_args_is_help=False)
def command() -> None:
    """Restore many films. A batch that was stopped, or killed, goes on where it was."""


@command.command(cls=EncoderOptions, context_settings=_SETTINGS)
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.option("-o", "--output", "out", type=_PATH, required=True, metavar="OUT", help="folder of the outputs")
@click.option("-p", "--use", "preset", metavar="PRESET", help="a preset by name, or a TOML file  [default]")
@click.option("-vf", "--chain", "chain", metavar="CHAIN", help="steps, as for a run")
@click.option("--config", "config_file", type=_PATH, help="a TOML file of your own values")
@click.option("-ss", "start", type=Seconds(), help="begin here, in every film")
@click.option("-to", "end", type=Seconds(), help="end here")
@click.option("--gate", type=click.Choice(["on", "warn", "off"]), help="hold back faces that are not good  [on]")
@click.option("--seed", type=int, help="of all random numbers  [0]")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps  [auto]")
@click.option("-y", "overwrite", is_flag=True, help="replace existing outputs")
@click.option("--dry-run", is_flag=True, help="say what would be done, and about how long it would take")
@click.option("--keep-going", is_flag=True, help="go on with the other films when one fails")
@click.option("--segment", type=click.IntRange(8), default=240, metavar="N", help="frames, about, of a segment  [240]")
@click.option("--masks", is_flag=True, help="write what was blended where beside each output, and prove the rest")
@click.option("--preserve", is_flag=True, default=None, help="give each output the time and mode of its source")
@click.option("--stamp", is_flag=True, default=None, help="write the time of the run into each output")
@click.option("--hash", "whole", is_flag=True, help="tell sources apart by all their bytes, not by time and ends")
@click.option("--set", "assigned", multiple=True, metavar="KEY=VALUE", help="any setting of 'vidrestore config show'")
@_of_running
@click.pass_obj
def run(
    encoder: dict[str, str],
    /,
    sources: tuple[str, ...],
    out: Path,
    preset: str | None,
    chain: str | None,
    config_file: Path | None,
    gate: str | None,
    overwrite: bool,
    dry_run: bool,
    workers: int | None,
    ray: str | None,
    keep_going: bool,
    retries: int,
    stall: float,
    segment: int,
    masks: bool,
    whole: bool,
    progress: str,
    assigned: tuple[str, ...],
    debug: bool,
    **settings: Any,
) -> int:
    """Restore every film of SRC into OUT, as tree/name.restored.*, with a record beside each.

    SRC are folders, files, patterns, or manifests (.csv, .jsonl). Sources are never written to. Running the same again
    does nothing; a changed option is a new job.
    """
    from vidrestore.batch.planning import Asked, enqueue, plan
    from vidrestore.batch.runner import Rules
    from vidrestore.batch.sources import find
    from vidrestore.batch.store import Store

    films = find(sources, out)
    asked = Asked(
        preset, chain, {**settings, **assignments(assigned)}, encoder, config_file, {"gate": {"mode": gate}}, segment,
        whole, overwrite, masks,
    )  # fmt: skip
    if dry_run:
        return _dry_run(films, out, asked, workers or 1)
    with Store(out) as store:
        for planned in plan(store, films, asked):
            enqueue(store, planned)
        return _work(store, Rules(workers, keep_going, retries, stall), ray, progress)


@command.command(context_settings=_SETTINGS)
@click.argument("out", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="for programs")
def status(out: Path, as_json: bool) -> None:
    """What is done, what is being done, what has failed and why."""
    from vidrestore.batch.report import as_json as listed
    from vidrestore.batch.report import rows, status_lines
    from vidrestore.batch.store import Store

    with Store.existing(out) as store:
        found = rows(store)
        click.echo(listed(found) if as_json else "\n".join(status_lines(found)))


@command.command(context_settings=_SETTINGS)
@click.argument("out", type=_PATH)
@_of_running
def retry(
    out: Path, workers: int | None, ray: str | None, retries: int, stall: float, progress: str, debug: bool
) -> int:
    """Try the failed films again, as they were asked for, and go on with those that are open."""
    from vidrestore.batch.planning import again
    from vidrestore.batch.runner import Rules
    from vidrestore.batch.store import Store

    with Store.existing(out) as store:
        for job in store.jobs():
            again(store, job)
        return _work(store, Rules(workers, True, retries, stall), ray, progress)


@command.command(context_settings=_SETTINGS)
@click.argument("out", type=_PATH)
@click.argument("outputs", nargs=-1, metavar="[OUTPUT...]")
def cancel(out: Path, outputs: tuple[str, ...]) -> None:
    """Take films that are not finished out of the queue: those of OUTPUT, relative to OUT, or all."""
    from vidrestore.batch.store import Store
    from vidrestore.batch.sweeping import sweep

    with Store.existing(out) as store:
        wanted = {Path(name) for name in outputs}
        unknown = wanted - {job.output for job in store.jobs()}
        if unknown:
            raise UsageError(
                str(sorted(unknown)[0]), "is no output of this batch", f"see: vidrestore batch status {out}"
            )
        count = sum(store.cancel(job.id) for job in store.jobs() if not wanted or job.output in wanted)
        sweep(store)
    click.echo(f"{count} cancelled")


@command.command(context_settings=_SETTINGS)
@click.argument("out", type=_PATH)
def verify(out: Path) -> int:
    """Read every published film and compare it with its record: whether it is still what was written, and, where
    there are masks, still the source outside them."""
    from vidrestore.batch.planning import intact
    from vidrestore.batch.proving import disproved
    from vidrestore.batch.store import Store

    bad = 0
    with Store.existing(out) as store:
        done = [job for job in store.jobs() if job.state == "done"]
        for job in done:
            if intact(store, job, thorough=True):
                what = disproved(store, job)
            else:
                what = "differs from what was published" if (out / job.output).exists() else "is gone"
            if what:
                bad += 1
                click.echo(f"{printable(str(job.output))}: {printable(what)}")
    click.echo(f"{len(done) - bad} of {len(done)} as published")
    return 8 if bad else 0


@command.command(context_settings=_SETTINGS)
@click.argument("out", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="print it for programs")
def report(out: Path, as_json: bool) -> None:
    """Write OUT/report.html and OUT/report.json: every film, failures first."""
    from vidrestore.batch.report import as_json as listed
    from vidrestore.batch.report import rows, write_report
    from vidrestore.batch.store import Store

    with Store.existing(out) as store:
        found = rows(store)
        if as_json:
            click.echo(listed(found))
            return
        for path in write_report(store, found):
            click.echo(str(path))


@command.command(context_settings=_SETTINGS)
@click.argument("out", type=_PATH)
@click.argument("target", type=_PATH, metavar="BAG")
def bag(out: Path, target: Path) -> int:
    """Make BAG, a folder: all published films with their records, as a BagIt 1.0 bag (RFC 8493)."""
    from vidrestore.batch.bag import make_bag
    from vidrestore.batch.store import Store

    with Store.existing(out) as store:
        made = make_bag(store, target)
    for line in made.left_out:
        click.echo(f"left out: {line}")
    click.echo(f"{made.films} films in {target}")
    return 8 if made.left_out else 0


def _work(store: Store, rules: Any, ray: str | None, progress: str) -> int:
    from vidrestore.batch import cluster, runner
    from vidrestore.batch.report import rows, summary
    from vidrestore.batch.sweeping import sweep
    from vidrestore.cli.batch_progress import telling

    stop_on_signals()
    sweep(store)
    with telling(progress, store) as tell:
        if ray is None:
            runner.run(store, rules, tell)
        else:
            cluster.run(store, rules, ray, tell)
    found = rows(store)
    for row in found:
        if row["code"]:
            say(f"error: {row['source']}: {row['reason']}")
    say(summary(found))
    return 8 if any(row["code"] for row in found) else 0


def _dry_run(films: Any, out: Path, asked: Any, workers: int) -> int:
    from vidrestore.batch.estimate import estimate
    from vidrestore.batch.planning import plan
    from vidrestore.batch.store import FOLDER, Store

    with Store(out, blank=not (out / FOLDER).is_dir()) as store:
        for line in estimate(store, plan(store, films, asked), workers):
            click.echo(line)
    return 0
