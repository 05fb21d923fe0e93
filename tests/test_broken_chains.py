"""Every broken chain that the documentation shows is refused with the line it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidrestore import cli

DOCS = Path(__file__).parents[1] / "docs" / "chain.md"


def broken() -> list[tuple[str, str]]:
    table = DOCS.read_text(encoding="utf-8").split("## When a chain is wrong")[1].split("\n## ")[0]
    rows = [line.strip("|\n ").split(" | ", 1) for line in table.splitlines() if line.startswith("| `")]
    return [(chain.strip("`"), message) for chain, message in rows]


def test_there_are_thirteen() -> None:
    assert len(set(broken())) == 13


@pytest.mark.parametrize(("chain", "message"), broken())
def test_one_line_says_where_and_what_to_write(
    chain: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out.mkv"
    assert cli.run([str(tmp_path / "film.mkv"), "-o", str(out), "-vf", chain]) == 2
    said = capsys.readouterr()
    assert said.err == f"vidrestore: error: chain: {message}\n"
    assert said.out == "" and not out.exists()
