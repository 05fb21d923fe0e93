"""The project as it is handed out: what the wheel holds, what the README says, which way imports run."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

from vidrestore.cli import COMMANDS
from vidrestore.cli.restore import command, split_encoder_options
from vidrestore.config import presets, resolve

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_holds_presets_weights_cards_and_the_demonstration(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"vidrestore/configs/{name}.toml" for name in presets()} <= names
    assert {"vidrestore/py.typed", "vidrestore_plugins/py.typed", "vidrestore_plugins/weights/manifest.toml"} <= names
    assert {"vidrestore/demo/portrait.jpg", "vidrestore/demo/README.md", "vidrestore/quality/sheet.html"} <= names
    assert {f"vidrestore/{room}/page.{kind}" for room in ("batch", "quality") for kind in ("css", "js")} <= names
    tensors = {n for n in names if n.endswith(".safetensors")}
    assert tensors and {n.replace(".safetensors", ".md") for n in tensors} <= names


def commands(text: str) -> list[list[str]]:
    """Every ``vidrestore ...`` of the shell blocks, without comments, pipes and redirections."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        for line in block.splitlines():
            for part in line.split("|"):
                words = shlex.split(part, comments=True)
                if words[:1] == ["vidrestore"]:
                    found.append(words[1:])
    return found


def test_the_commands_of_the_readme_are_commands() -> None:
    found = commands((ROOT / "README.md").read_text())
    assert len(found) > 6
    for words in found:
        if words[0] in COMMANDS:
            import_module(f"vidrestore.cli.{words[0]}").command.make_context(words[0], list(words[1:]))
            continue
        ours, encoder = split_encoder_options(words)
        ctx = command.make_context("vidrestore", list(words))
        resolve(preset=ctx.params["preset"], chain=ctx.params["chain"], encoder=encoder, environment={})
        assert ours


def test_the_snippets_of_the_docs_compile() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
            ast.parse(block)


def test_every_link_of_the_docs_leads_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
