"""``vidrestore train``: make a bundled weights file anew, by the recipe beside its network."""

from __future__ import annotations

import click

from vidrestore import registry
from vidrestore.errors import UsageError, did_you_mean


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Run a recipe: vidrestore train NAME [OPTIONS]; vidrestore train NAME --help lists them."""
    known = registry.entries("recipe")
    if not arguments or arguments[0] in ("-h", "--help"):
        click.echo("vidrestore train NAME [OPTIONS]\n\nRecipes: " + ", ".join(sorted(known)))
        return
    name, rest = arguments[0], list(arguments[1:])
    if name not in known:
        hint = did_you_mean(name, known) or ";"
        raise UsageError("train", f"no recipe '{name}'{hint} have: {' '.join(sorted(known))}")
    known[name].load()(rest)
