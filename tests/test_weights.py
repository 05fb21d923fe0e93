"""Weights: fetched from a server, resumed, verified, converted; bundled ones are what their manifest says."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vidrestore.cli import run
from vidrestore.errors import InputAccessError, ResourceError, UsageError
from vidrestore.weights import store
from vidrestore.weights.store import Source, Weights


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder with ranges; ``cut`` bytes after which an answer breaks off."""

    cut: int | None = None
    ranges: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        file = Path(self.directory) / self.path.strip("/")
        if not file.is_file():
            self.send_error(404)
            return
        data = file.read_bytes()
        asked = self.headers.get("Range")
        if asked:
            self.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_error(416)
                return
            data = data[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data if type(self).cut is None else data[: type(self).cut])

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "www").mkdir()
    Handler.cut, Handler.ranges = None, []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "www"))) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIDRESTORE_WEIGHTS", str(tmp_path / "cache"))
    return tmp_path / "cache"


STATE = {"module.a.weight": torch.arange(6.0).reshape(2, 3), "module.b": torch.ones(50_000)}


def published(tmp_path: Path, name: str = "net.pth", data: Any = None) -> None:
    torch.save(STATE if data is None else data, tmp_path / "www" / name)


def entry(*urls: str, name: str = "net", importer: str | None = None, **known: Any) -> Weights:
    sources = tuple(Source(url, **known) for url in urls)
    return Weights(name=name, description="", licence="", folder=Path(), sources=sources, importer=importer)


def test_a_pickle_becomes_safetensors(server: str, tmp_path: Path) -> None:
    published(tmp_path)
    weights = entry(f"{server}/net.pth")
    seen: list[tuple[int, int | None]] = []
    path = store.fetch(weights, lambda _: nullcontext(lambda done, total: seen.append((done, total))))
    assert path == weights.path and weights.here
    state = load_file(path)
    assert torch.equal(state["a.weight"], STATE["module.a.weight"]) and set(state) == {"a.weight", "b"}
    assert seen[-1][0] == seen[-1][1]
    assert store.verify(weights) == store.file_hash(path)
    assert not list(path.parent.glob("*.download"))


def test_safetensors_and_nested_state_dicts(server: str, tmp_path: Path) -> None:
    save_file({"x": torch.ones(3)}, tmp_path / "www" / "net.safetensors")
    assert set(load_file(store.fetch(entry(f"{server}/net.safetensors")))) == {"x"}
    published(tmp_path, "ema.pth", {"params_ema": {"y": torch.ones(2)}, "epoch": 3})
    assert set(load_file(store.fetch(entry(f"{server}/ema.pth", name="ema")))) == {"y"}


def test_a_cut_download_is_resumed_where_it_stopped(server: str, tmp_path: Path, cache: Path) -> None:
    published(tmp_path)
    weights = entry(f"{server}/net.pth")
    Handler.cut = 70_000
    with pytest.raises(ResourceError, match=r"broke off.*run it again to resume"):
        store.fetch(weights)
    assert (cache / "net.net.download").stat().st_size == 70_000
    Handler.cut = None
    store.fetch(weights)
    assert Handler.ranges == ["bytes=70000-"] and weights.here


def test_what_was_recorded_at_first_is_verified_ever_after(server: str, tmp_path: Path) -> None:
    published(tmp_path)
    weights = entry(f"{server}/net.pth")
    path = store.fetch(weights)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ResourceError, match="the file has changed"):
        store.verify(weights)
    published(tmp_path, data={key: t + 1 for key, t in STATE.items()})
    with pytest.raises(ResourceError, match="not the published file"):
        store.fetch(weights, again=True)
    published(tmp_path, data={"other": torch.ones(1)})
    with pytest.raises(ResourceError, match=r"\d+ bytes instead of \d+"):
        store.fetch(weights, again=True)


def test_size_and_hash_of_the_manifest_are_enforced(server: str, tmp_path: Path) -> None:
    published(tmp_path)
    with pytest.raises(ResourceError, match="instead of 12"):
        store.fetch(entry(f"{server}/net.pth", size=12))
    with pytest.raises(ResourceError, match="SHA-256 differs"):
        store.fetch(entry(f"{server}/net.pth", sha256="0" * 64))


def two_parts(parts: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """An importer, as a distribution would name it in its manifest."""
    if set(parts) != {"one", "two"}:
        raise ResourceError("checkpoint", f"parts one and two wanted, have {sorted(parts)}")
    return {part: content["x"] for part, content in parts.items()}, {"kind": "pair"}


def pair(*urls: str) -> Weights:
    return entry(*urls, name="pair", importer="test_weights:two_parts")


def publish_pair(folder: Path) -> None:
    torch.save({"x": torch.ones(50_000), "args": Namespace(lr=1.0)}, folder / "one.pt")
    torch.save({"x": torch.zeros(50_000), "best": np.float64(3.5)}, folder / "two.ckpt")


def test_weights_in_several_files(server: str, tmp_path: Path, cache: Path) -> None:
    publish_pair(tmp_path / "www")
    weights = pair(f"{server}/one.pt", f"{server}/two.ckpt")
    Handler.cut = 60_000
    with pytest.raises(ResourceError, match=r"one\.pt: download broke off"):
        store.fetch(weights)
    Handler.cut = None
    seen: list[str] = []
    path = store.fetch(weights, lambda source: nullcontext(lambda *_: seen.append(source.part)))
    assert Handler.ranges == ["bytes=60000-"] and set(seen) == {"one", "two"}
    state = load_file(path)
    assert torch.equal(state["one"], torch.ones(50_000)) and torch.equal(state["two"], torch.zeros(50_000))
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"kind": "pair"}
    assert not list(cache.glob("*.download"))
    torch.save({"x": torch.full((50_000,), 7.0), "best": np.float64(3.5)}, tmp_path / "www" / "two.ckpt")
    with pytest.raises(ResourceError, match=r"two\.ckpt.*not the published file"):
        store.fetch(weights, again=True)


def test_files_that_are_on_disk_are_imported(tmp_path: Path) -> None:
    publish_pair(tmp_path)
    paths = [[str(tmp_path)], [str(tmp_path / "one.pt"), f"two={tmp_path / 'two.ckpt'}"]]
    for given in paths:
        path = store.take(pair(), given)
        assert set(load_file(path)) == {"one", "two"}
        assert store.verify(pair()) == store.file_hash(path)
        path.unlink()
    published = pair("http://127.0.0.1:9/one.pt", "http://127.0.0.1:9/two.ckpt")
    (tmp_path / "notes.pt").write_bytes(b"no part of it")
    assert store.take(published, [str(tmp_path)]).is_file()


def test_what_cannot_be_imported_says_why(tmp_path: Path) -> None:
    publish_pair(tmp_path)
    one = str(tmp_path / "one.pt")
    with pytest.raises(InputAccessError, match=r"three\.pt: no such file"):
        store.take(pair(), [one, str(tmp_path / "three.pt")])
    with pytest.raises(UsageError, match="two files for 'one'"):
        store.take(pair(), [one, f"one={tmp_path / 'two.ckpt'}"])
    with pytest.raises(ResourceError, match="parts one and two wanted"):
        store.take(pair(), [one])
    with pytest.raises(UsageError, match="2 files; these weights are one file"):
        store.take(entry(), [one, str(tmp_path / "two.ckpt")])
    with pytest.raises(UsageError, match="bundled"):
        store.take(store.find("assess_head"), [one])
    assert not pair().here


@pytest.mark.parametrize(
    "junk", [b"", b"PK", b"PK\x03\x04" + bytes(50), b"\x80\x02.", b"\x80\x02}q\x00", b"\x80\x04K", b"{}"]
)
def test_junk_is_one_line_and_code_7(junk: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.pth").write_bytes(junk)
    assert run(["weights", "import", "retinaface_resnet50", str(tmp_path / "net.pth")]) == 7
    said = capsys.readouterr().err.strip()
    assert "holds no plain tensors" in said and "\n" not in said


@pytest.mark.parametrize("content", [{}, 3, torch.zeros(2), {"state_dict": {"lr": 0.1}}])
def test_a_checkpoint_without_tensors_is_none(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(ResourceError, match="checkpoint net: holds no plain tensors"):
        store.take(entry(), [str(tmp_path / "net.pth")])
    assert not entry().here


def test_import_on_the_command_line(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(STATE, tmp_path / "net.pth")
    assert run(["weights", "import", "retinaface_resnet50", str(tmp_path / "net.pth")]) == 0
    assert str(cache / "retinaface_resnet50.safetensors") in capsys.readouterr().out
    assert set(load_file(store.weights_path("retinaface_resnet50"))) == {"a.weight", "b"}
    assert run(["weights", "import", "retinaface_resnet50", str(tmp_path / "nothing.pth")]) == 3
    assert run(["weights", "import", "retinaface_resnet51", str(tmp_path / "net.pth")]) == 2
    assert run(["weights", "import", "retinaface_resnet50"]) == 2


def test_a_trainers_notes_are_left_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    content = {"state_dict": STATE, "callbacks": {module.ModelCheckpoint: {"best": np.float32(1)}}}
    torch.save(content, tmp_path / "net.ckpt")
    monkeypatch.delitem(sys.modules, module.__name__)
    assert set(load_file(store.take(entry(), [str(tmp_path / "net.ckpt")]))) == {"a.weight", "b"}


class Bomb:
    def __reduce__(self) -> Any:
        return (print, ("ran",))


def test_a_pickle_that_would_run_code_is_refused(server: str, tmp_path: Path, capsys: Any) -> None:
    published(tmp_path, data={"a": Bomb()})
    with pytest.raises(ResourceError, match="holds no plain tensors"):
        store.fetch(entry(f"{server}/net.pth"))
    assert run(["weights", "import", "retinaface_resnet50", str(tmp_path / "www" / "net.pth")]) == 7
    assert "ran" not in capsys.readouterr().out


def test_no_such_file_and_no_such_host(server: str) -> None:
    with pytest.raises(ResourceError, match="the server answered 404"):
        store.fetch(entry(f"{server}/missing.pth"))
    with pytest.raises(ResourceError, match="download broke off"):
        store.fetch(entry("http://127.0.0.1:9/net.pth"))


def test_weights_that_are_not_here_say_how_to_get_them() -> None:
    with pytest.raises(ResourceError, match="vidrestore weights fetch retinaface_resnet50"):
        store.weights_path("retinaface_resnet50")
    with pytest.raises(UsageError, match="did you mean 'retinaface_mobile025'"):
        store.find("retinaface_mobil025")


def test_bundled_weights_are_those_of_the_manifest() -> None:
    bundled = [w for w in store.catalogue().values() if w.file]
    assert bundled
    for weights in bundled:
        assert weights.sha256, f"{weights.name} needs its sha256 in the manifest"
        assert store.file_hash(weights.path) == weights.sha256
        assert weights.path.with_suffix(".md").is_file(), f"{weights.name} needs a card"
