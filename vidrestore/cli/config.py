"""``vidrestore config show``: every value of a run and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidrestore.cli.restore import EncoderOptions, assignments
from vidrestore.options import text

if TYPE_CHECKING:
    from vidrestore.config import RunConfig


@click.group()
def command() -> None:
    """What a run would do."""


@command.command(cls=EncoderOptions)
@click.option("-p", "--use", "preset", metavar="PRESET", help="a preset by name, or a TOML file")
@click.option("-vf", "--chain", "chain", metavar="CHAIN", help="steps, as for a run")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="a TOML file of your own values")
@click.option("--seed", type=int, help="of all random numbers")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps")
@click.option("--set", "assigned", multiple=True, metavar="KEY=VALUE", help="any setting")
@click.option("--json", "as_json", is_flag=True, help="for programs")
@click.pass_obj
def show(
    encoder: dict[str, str],
    /,
    preset: str | None,
    chain: str | None,
    config_file: Path | None,
    seed: int | None,
    device: str | None,
    assigned: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print each value and its origin. Takes the flags of a run."""
    from vidrestore.config import resolve

    given = {"seed": seed, "device": device, **assignments(assigned)}
    config = resolve(preset=preset, chain=chain, settings=given, encoder=encoder, config_file=config_file)
    rows = table(config)
    if as_json:
        click.echo(json.dumps({"chain": config.chain, "sha256": config.chain_hash, "values": rows}, indent=1))
        return
    width = max(len(f"{r['key']} = {r['value']}") for r in rows)
    for row in rows:
        shown = f"{row['key']} = {row['value']}"
        click.echo(f"{shown:{width}}  # {row['origin']}")
    click.echo(f"\nchain   {config.chain}\nsha256  {config.chain_hash}")


@command.command()
def presets() -> None:
    """List the shipped presets."""
    from vidrestore.config import presets as shipped

    for name, description in shipped().items():
        click.echo(f"{name:10} {description}")


def table(config: RunConfig) -> list[dict[str, str]]:
    """One row a value: key, value, origin."""
    rows = []
    for step in config.steps:
        rows.append({"key": step.stage, "value": step.plugin, "origin": step.origin})
        values = step.options.model_dump(mode="json")
        for key, value in values.items():
            rows.append({"key": f"{step.stage}.{key}", "value": text(value), "origin": step.origins[key]})
    for key, value in config.settings.model_dump(mode="json").items():
        shown = "" if value is None else text(value)
        rows.append({"key": f"settings.{key}", "value": shown, "origin": config.settings_origins[key]})
    for key, value in config.encoder.items():
        rows.append({"key": f"encoder.{key}", "value": value, "origin": config.encoder_origins[key]})
    return rows
