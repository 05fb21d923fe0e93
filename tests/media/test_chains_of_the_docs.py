"""Every chain that the documentation shows runs on a film."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from media_tools import TONE, X264, ffmpeg, read

from vidrestore import cli
from vidrestore.weights.store import weights_path

DOCS = Path(__file__).parents[2] / "docs" / "chain.md"


def chains() -> list[str]:
    table = DOCS.read_text(encoding="utf-8").split("## Twenty chains")[1].split("\n## ")[0]
    return [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=1", *TONE, *X264, "-c:a", "flac", path)
    return path


def test_there_are_twenty() -> None:
    assert len(set(chains())) == 20


@pytest.mark.parametrize("chain", chains())
def test_it_runs(chain: str, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if "C:" in chain:
        shutil.copy(weights_path("ldbfr_tiny"), tmp_path / "C:\\models\\a:b.safetensors")
    out = tmp_path / "out.mkv"
    assert cli.run([str(film), "-o", str(out), "-vf", chain, "-c:v", "ffv1", "--progress", "none"]) == 0
    done, source = read(out), read(film)
    assert done.n > 0
    if chain == chains()[-1]:
        for a, b in zip(done.planes, source.planes, strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
