"""``vidrestore weights``: list, fetch, import and verify weights."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vidrestore.weights.store import Source


@click.group()
def command() -> None:
    """Weights: what is here, what can be fetched."""


@command.command(name="list")
def show() -> None:
    """List all weights, where they are and under what terms."""
    from vidrestore.weights.store import catalogue

    for name, weights in sorted(catalogue().items()):
        absent = "to be fetched" if weights.sources else "to be imported"
        where = "bundled" if weights.file else "here" if weights.here else absent
        missing = "" if weights.here or not weights.file else " (missing)"
        click.echo(f"{name:24} {where}{missing}: {weights.description}\n{'':24} {weights.licence}")


@command.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--again", is_flag=True, help="even if they are here")
def fetch(names: tuple[str, ...], again: bool) -> None:
    """Download weights into the cache; a cut download is resumed."""
    from vidrestore.weights import store

    for name in names:
        path = store.fetch(store.find(name), _bar, again=again)
        click.echo(f"{name}: {path}")


@command.command(name="import")
@click.argument("name")
@click.argument("paths", nargs=-1, required=True, metavar="[PART=]PATH...")
def take(name: str, paths: tuple[str, ...]) -> None:
    """Convert published checkpoints that are on disk: files, or a folder of them.

    Each is known by its name without the ending, or by what is put before it: PART=FILE.
    """
    from vidrestore.weights import store

    click.echo(f"{name}: {store.take(store.find(name), paths)}")


@contextmanager
def _bar(source: Source) -> Iterator[Callable[[int, int | None], None]]:
    with click.progressbar(length=source.size or 1, label=source.part) as bar:

        def tell(done: int, total: int | None) -> None:
            bar.length = total or done
            bar.update(done - bar.pos)

        yield tell


@command.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Compare the files that are here with their hashes; all of them without a name."""
    from vidrestore.weights import store

    for name in names or sorted(n for n, w in store.catalogue().items() if w.here):
        click.echo(f"{name}: {store.file_hash(store.weights_path(name))}")
