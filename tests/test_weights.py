"""Weights: fetched from a server, resumed, verified, converted; bundled ones are what their manifest says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vidrestore.errors import ResourceError, UsageError
from vidrestore.weights import store
from vidrestore.weights.store import Weights


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


def entry(url: str, **changes: Any) -> Weights:
    values: dict[str, Any] = {"name": "net", "description": "", "licence": "", "folder": Path(), "url": url}
    return Weights(**values | changes)


def test_a_pickle_becomes_safetensors(server: str, tmp_path: Path) -> None:
    published(tmp_path)
    weights = entry(f"{server}/net.pth")
    seen: list[tuple[int, int | None]] = []
    path = store.fetch(weights, lambda done, total: seen.append((done, total)))
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
    assert (cache / "net.download").stat().st_size == 70_000
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
    published(tmp_path, data={"other": torch.ones(1)})
    with pytest.raises(ResourceError, match="not the published file"):
        store.fetch(weights, again=True)


def test_size_and_hash_of_the_manifest_are_enforced(server: str, tmp_path: Path) -> None:
    published(tmp_path)
    with pytest.raises(ResourceError, match="instead of 12"):
        store.fetch(entry(f"{server}/net.pth", size=12))
    with pytest.raises(ResourceError, match="SHA-256 differs"):
        store.fetch(entry(f"{server}/net.pth", sha256="0" * 64))


class Bomb:
    def __reduce__(self) -> Any:
        return (print, ("ran",))


def test_a_pickle_that_would_run_code_is_refused(server: str, tmp_path: Path, capsys: Any) -> None:
    published(tmp_path, data={"a": Bomb()})
    with pytest.raises(ResourceError, match="holds no plain tensors"):
        store.fetch(entry(f"{server}/net.pth"))
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
