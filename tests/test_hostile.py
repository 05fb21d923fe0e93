"""Weights and plugins as a way in: code in a pickle, headers that lie, names that are paths, modules that fail."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vidrestore import cli


class Runs:
    """Unpickled, it would make a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = cli.run(arguments)
    error = capsys.readouterr().err.strip()
    assert "\n" not in error and "Traceback" not in error, error
    return code, error


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["vspbfr", "flipnet_prior", "ldbfr_full"])
def test_code_in_a_checkpoint_is_not_run(
    name: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDRESTORE_WEIGHTS", str(tmp_path / "store"))
    trace, file = tmp_path / "ran", tmp_path / "evil.pt"
    if zipped:
        torch.save({"state_dict": Runs(trace)}, file)
    else:
        file.write_bytes(pickle.dumps(Runs(trace)))
    parts = {"flipnet_prior": [f"unet={file}", f"vae={file}"], "ldbfr_full": [f"ldm={file}"]}.get(name, [str(file)])
    code, error = said(["weights", "import", name, *parts], capsys)
    assert code in (2, 7) and error
    assert not trace.exists()
    assert not list((tmp_path / "store").glob("*.safetensors"))


def header(table: dict[str, Any], size: int | None = None) -> bytes:
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text


LIES = {
    "more than there is": header({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}) + bytes(16),
    "a header without end": header({}, 2**60),
    "a negative length": b"\xff" * 8 + b"{}",
    "overlapping tensors": header({k: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for k in "ab"}) + bytes(8),
    "no header": b"hello",
    "a size that is a path": header({"__metadata__": {"size": "../../x", "format": "../../x"}}),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("model", ["ldbfr", "vspbfr", "flipnet", "spandrel"])
def test_a_header_that_lies_is_one_line(
    model: str, lie: str, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.safetensors"
    file.write_bytes(LIES[lie])
    code, error = said([str(film), "-o", str(tmp_path / "o.mkv"), "-vf", f"restore={model}:weights={file}"], capsys)
    assert code == 7 and "file.safetensors" in error
    assert not (tmp_path / "o.mkv").exists()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import av
    import numpy as np

    path = tmp_path_factory.mktemp("film") / "film.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("restore=../../etc/passwd", 2),
        ("detect=/etc/passwd:Any", 2),
        ("detect=./absent.py:Any", 2),
        ("restore=/dev/zero:Any", 2),
        ("restore=ldbfr:weights=/dev/zero", 2),
        ("restore=ldbfr:weights=/", 2),
        ("restore=ldbfr:weights=../ldbfr_tiny", 2),
        ("restore=spandrel:weights=/dev/zero", 7),
    ],
)
def test_a_name_that_is_a_path_is_no_name(
    step: str, code: int, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said([str(film), "-o", str(tmp_path / "o.mkv"), "-vf", step], capsys)[0] == code


def test_a_plugin_whose_module_fails_is_named_with_who_brought_it(film: Path, tmp_path: Path) -> None:
    """Listed without being imported; used, it is one line."""
    site = tmp_path / "site"
    info = site / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vidrestore.restore]\nloud = loud_module:Any\ngone = gone_module:Any\n")
    (site / "loud_module.py").write_text("raise RuntimeError('two\\nlines')\n")
    known = os.environ.get("PYTHONPATH", "")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *([known] if known else [])])}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vidrestore", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, check=False)

    listed = run("plugins")
    assert listed.returncode == 0 and "loud" in listed.stdout and "broken 1.0" in listed.stdout
    for name, why in (("loud", "two"), ("gone", "gone_module")):
        for arguments in ([str(film), "-o", str(tmp_path / "o.mkv"), "-vf", f"restore={name}"], ["plugins", name]):
            done = run(*arguments)
            assert done.returncode == 7 and why in done.stderr and "reinstall broken 1.0" in done.stderr
            assert done.stderr.strip().count("\n") == 0
