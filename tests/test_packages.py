"""Every package that is depended on for a role of its own has that role, where the README says so."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"torch": "torch", "av": "av", "decord": "decord", "facexlib": "facexlib", "numpy": "numpy",
            "ffmpeg-python": "ffmpeg", "kornia": "kornia"}  # fmt: skip


def rows() -> dict[str, list[str]]:
    """Package -> the files that the README's table names."""
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("| package | role | where |")[1].split("\n\n")[0]
    cells = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `")]
    return {name.strip(" `"): re.findall(r"`([^`]+\.py)`", where) for name, _, where in cells}


def imported(path: Path) -> set[str]:
    """First names of all that a file imports, for its types too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name.partition(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_the_table_names_them_all() -> None:
    assert set(rows()) == set(PACKAGES)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[<>=!; ]", d)[0] for d in project["dependencies"]}
    assert set(PACKAGES) <= needed


@pytest.mark.parametrize("package", PACKAGES)
def test_each_is_used_where_it_says(package: str) -> None:
    files = rows()[package]
    assert files
    for name in files:
        assert PACKAGES[package] in imported(ROOT / name), f"{name} does not import {package}"
