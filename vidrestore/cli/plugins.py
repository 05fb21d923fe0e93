"""``vidrestore plugins``: what is installed; with a name, its options; ``new`` begins one."""

from __future__ import annotations

import ast
import json
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vidrestore import registry
from vidrestore.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from vidrestore.registry import Entry


class _Plugins(click.Group):
    """A group whose first word may be left out: what is not a command is for ``list``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = {"--help", *self.commands}.intersection(args[:1])
        return super().parse_args(ctx, args if named else ["list", *args])


@click.group(cls=_Plugins, subcommand_metavar="[NAME] | new KIND NAME")
def command() -> None:
    """Plugins: what is installed, the options of one (vidrestore plugins feather), the beginning of a new one."""


@command.command()
@click.argument("kind")
@click.argument("name")
@click.option("-o", "--output", "within", default=".", type=click.Path(path_type=Path), help="where it goes  [.]")
def new(kind: str, name: str, within: Path) -> None:
    """Begin a plugin: a small distribution in a folder of its own, which works and keeps the contract as it is.

    KIND is detect, track, assess, restore, smooth, embed, blend or degrade. The folder is DIR/vidrestore-KIND-NAME.
    """
    from vidrestore.scaffold import make

    made = make(kind, name, within)
    folder = shlex.quote(str(made.folder))
    click.echo(f"{made.module} is yours to change; it works as it is\n")
    click.echo(f"  try it:      vidrestore {made.use_file}")
    click.echo(f"  test it:     cd {folder} && python -m pytest")
    click.echo(f"  install it:  pip install -e {folder}")
    click.echo(f"  then:        vidrestore {made.use}")


@command.command(name="list")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="for programs")
def show(name: str | None, as_json: bool) -> None:
    """List the plugins of every stage, or the options of one."""
    found = [e for kind in registry.KINDS for e in registry.entries(kind).values()]
    if name is not None:
        _options(name, found, as_json)
        return
    rows = [{"kind": e.kind, "name": e.name, "from": e.distribution, "about": about(e)} for e in found]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    width = max(len(r["name"]) for r in rows)
    for kind, purpose in registry.KINDS.items():
        mine = [r for r in rows if r["kind"] == kind]
        if mine:
            click.echo(f"{kind}: {purpose}")
            for row in mine:
                click.echo(f"  {row['name']:{width}}  {row['about']}  [{row['from']}]")


def about(entry: Entry) -> str:
    """The first line of the plugin's module, read without importing it."""
    module = entry.target.partition(":")[0]
    try:
        spec = find_spec(module)
        source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else None
    except (ImportError, OSError, ValueError) as error:
        return f"broken: {error}"
    if source is None:
        return f"broken: no module {module}"
    text = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return text.partition(f"{entry.name}: ")[2] or text


def _options(name: str, found: list[Entry], as_json: bool) -> None:
    kind, sign, plugin = name.partition("=")
    wanted = [e for e in found if (e.name == plugin and e.kind == kind if sign else e.name == name)]
    wanted = [e for e in wanted if e.kind != "recipe"]
    if not wanted:
        raise UsageError("plugins", f"no plugin '{name}'{did_you_mean(name, [e.name for e in found])}")
    tables = {f"{e.kind}={e.name}": _table(e) for e in wanted}
    if as_json:
        click.echo(json.dumps(tables, indent=1))
        return
    for step, table in tables.items():
        click.echo(f"{step}")
        for row in table:
            click.echo(f"  {row['option']:12} {row['takes']}  [{row['default']}]\n               {row['help']}")


def _table(entry: Entry) -> list[dict[str, Any]]:
    from vidrestore.config import options_model
    from vidrestore.options import text, wanted

    fields = options_model(entry.kind, entry.name).model_fields
    return [
        {"option": key, "takes": wanted(field), "default": text(field.default), "help": field.description or ""}
        for key, field in fields.items()
    ]
