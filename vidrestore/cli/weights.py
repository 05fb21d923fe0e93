"""``vidrestore weights``: list, fetch and verify weights."""

from __future__ import annotations

import click


@click.group()
def command() -> None:
    """Weights: what is here, what can be fetched."""


@command.command(name="list")
def show() -> None:
    """List all weights, where they are and under what terms."""
    from vidrestore.weights.store import catalogue

    for name, weights in sorted(catalogue().items()):
        where = "bundled" if weights.file else "fetched" if weights.here else "to be fetched"
        missing = "" if weights.here or not weights.file else " (missing)"
        click.echo(f"{name:24} {where}{missing}: {weights.description}\n{'':24} {weights.licence}")


@command.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--again", is_flag=True, help="even if they are here")
def fetch(names: tuple[str, ...], again: bool) -> None:
    """Download weights into the cache; a cut download is resumed."""
    from vidrestore.weights import store

    for name in names:
        weights = store.find(name)
        with click.progressbar(length=weights.size or 1, label=name) as bar:

            def tell(done: int, total: int | None, bar: object = bar) -> None:
                bar.length = total or done  # type: ignore[attr-defined]
                bar.update(done - bar.pos)  # type: ignore[attr-defined]

            path = store.fetch(weights, tell, again=again)
        click.echo(f"{name}: {path}")


@command.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Compare the files that are here with their hashes; all of them without a name."""
    from vidrestore.weights import store

    for name in names or sorted(n for n, w in store.catalogue().items() if w.here):
        click.echo(f"{name}: {store.file_hash(store.weights_path(name))}")
