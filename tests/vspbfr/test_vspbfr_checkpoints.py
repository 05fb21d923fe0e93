"""Published checkpoints, imitated in small: fetched from a server, imported from disk, refused by name."""

from __future__ import annotations

import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipe import filled, normal
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from vspbfr_nano import drawn

from vidrestore.errors import ResourceError
from vidrestore.weights import store
from vidrestore.weights.store import Source, Weights
from vidrestore_plugins.restore.vspbfr.bank import Generator
from vidrestore_plugins.restore.vspbfr.checkpoints import PARTS, convert, converted
from vidrestore_plugins.restore.vspbfr.files import load
from vidrestore_plugins.restore.vspbfr.model import VSPBFR
from vidrestore_plugins.restore.vspbfr.sizes import NANO, PUBLISHED, Size

State = dict[str, Any]


def nano(parts: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The importer of nano's checkpoints."""
    return converted(parts, NANO)


def networks(size: Size) -> tuple[VSPBFR, Generator]:
    net, generator = VSPBFR(size), filled(Generator(size), "decoder", "decoder")
    filled(net.encoder, "encoder", "encoder")
    filled(net.diffuser, "att_mapper", "att_mapper")
    filled(net.restoration, "g_ema", "g_ema")
    net.bank.load_state_dict({key: t for key, t in generator.state_dict().items() if key in net.bank.state_dict()})
    net.latent_avg.copy_(normal("mean", *net.latent_avg.shape))
    return net.eval(), generator


def published(net: VSPBFR, generator: nn.Module) -> dict[str, State]:
    """What the three files hold, with what trainings leave in them."""
    both = {f"encoder.{key}": t for key, t in net.encoder.state_dict().items()}
    both |= {f"decoder.{key}": t for key, t in generator.state_dict().items()}
    options = {"encoder_type": "Encoder4Editing", "stylegan_size": 1024, "start_from_latent_avg": True}
    restoration = net.restoration.state_dict()
    return {
        "style_encoder_decoder": {"state_dict": both, "latent_avg": net.latent_avg, "opts": options, "global_step": 7},
        "code_diffuser": {
            "att_mapper": {f"module.{key}": t for key, t in net.diffuser.state_dict().items()},
            "mapper_optim": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": []},
            "args": Namespace(lr=0.002),
            "best_fid": np.float64(12.5),
        },
        "restoration_net": {
            "g_ema": restoration,
            "g": {key: t + 1 for key, t in restoration.items()},
            "d": {"final_linear.1.bias": torch.zeros(1)},
            "args": Namespace(size=512),
        },
    }


@pytest.fixture
def www(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address that it is served at."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIDRESTORE_WEIGHTS", str(tmp_path / "cache"))
    return tmp_path / "cache"


def weights(address: str) -> Weights:
    sources = tuple(Source(f"{address}/{source.part}.pt") for source in store.find("vspbfr").sources)
    return Weights("nano", "", "", Path(), sources=sources, importer="test_vspbfr_checkpoints:nano")


def test_fetched_and_imported_they_are_the_same_networks(www: tuple[Path, str], cache: Path) -> None:
    folder, address = www
    net, generator = networks(NANO)
    for name, content in published(net, generator).items():
        torch.save(content, folder / f"{name}.pt")
    fetched = store.fetch(weights(address))
    assert not list(cache.glob("*.download"))
    once = fetched.read_bytes()
    fetched.unlink()
    assert store.take(weights(address), [str(folder)]).read_bytes() == once
    assert store.verify(weights(address)) == store.file_hash(fetched)
    read, state = load(fetched), net.state_dict()
    assert set(load_file(fetched)) == set(state)
    assert all(torch.equal(t, state[key]) for key, t in read.state_dict().items())
    x, given = drawn(net, 1)
    with torch.inference_mode():
        torch.testing.assert_close(read(x, given), net(x, given), atol=1e-4, rtol=1e-3)


def test_the_manifest_names_the_published_files_and_their_importer() -> None:
    entry = store.find("vspbfr")
    assert tuple(source.part for source in entry.sources) == PARTS
    assert all(
        source.url.startswith("https://huggingface.co/Wanglong2/VSPBFR/resolve/main/") for source in entry.sources
    )
    with torch.device("meta"):
        net, generator = VSPBFR(PUBLISHED), Generator(PUBLISHED)
    tensors, header = convert(published(net, generator))
    assert set(tensors) == set(net.state_dict())
    assert Size.model_validate_json(header["vspbfr"]) == PUBLISHED


def changed(part: str, entry: str, change: Callable[[State], State]) -> dict[str, State]:
    content = published(*networks(NANO))
    content[part] = content[part] | {entry: change(dict(content[part][entry]))}
    return content


STATES = [
    ("style_encoder_decoder", "state_dict", "encoder.body.0.res_layer.1.weight"),
    ("style_encoder_decoder", "state_dict", "decoder.to_rgb1.bias"),
    ("code_diffuser", "att_mapper", "att_mapper.0.q_matrix.weight"),
    ("restoration_net", "g_ema", "final_linear.0.bias"),
]


@pytest.mark.parametrize("part, entry, key", STATES)
def test_a_missing_an_unknown_and_a_misshapen_tensor_are_named(part: str, entry: str, key: str) -> None:
    theirs = f"module.{key}" if part == "code_diffuser" else key
    named = rf"checkpoint {part}: {entry}: .*'{key}'"
    with pytest.raises(ResourceError, match=rf"{named}.*not the published file"):
        nano(changed(part, entry, lambda state: {k: t for k, t in state.items() if k != theirs}))
    with pytest.raises(ResourceError, match=rf"{named} is \[1, 2\] instead of"):
        nano(changed(part, entry, lambda state: state | {theirs: torch.zeros(1, 2)}))
    with pytest.raises(ResourceError, match=rf"checkpoint {part}: {entry}: unknown tensor '{key}r'"):
        nano(changed(part, entry, lambda state: state | {f"{key}r": torch.zeros(1)}))
    with pytest.raises(ResourceError, match=r"unknown tensor 'head\.weight'"):
        nano(changed(part, entry, lambda state: state | {"head.weight": torch.zeros(1)}))


def test_files_that_are_not_the_published_ones() -> None:
    content = published(*networks(NANO))
    for part in PARTS:
        with pytest.raises(ResourceError, match=f"checkpoint {part}: no such file among those given"):
            nano({name: value for name, value in content.items() if name != part})
    with pytest.raises(ResourceError, match="code_diffuser: no 'att_mapper' in it"):
        nano(content | {"code_diffuser": content["restoration_net"]})
    with pytest.raises(ResourceError, match="restoration_net: no 'g_ema' in it"):
        nano(content | {"restoration_net": torch.zeros(3)})
    with pytest.raises(ResourceError, match=r"'final_linear\.0\.bias' is no tensor"):
        nano(changed("restoration_net", "g_ema", lambda state: state | {"final_linear.0.bias": 3}))


def test_the_mean_code(cache: Path) -> None:
    content = published(*networks(NANO))
    encoder = content["style_encoder_decoder"]
    mean = encoder["latent_avg"][:1]
    tensors, _ = nano(content | {"style_encoder_decoder": encoder | {"latent_avg": mean}})
    assert torch.equal(tensors["latent_avg"], mean.expand(NANO.codes, -1))
    with pytest.raises(ResourceError, match=r"'latent_avg' is \[2, 32\] instead of \[10, 32\]"):
        nano(content | {"style_encoder_decoder": encoder | {"latent_avg": torch.zeros(2, 32)}})
    with pytest.raises(ResourceError, match="no tensor 'latent_avg' in it"):
        nano(content | {"style_encoder_decoder": encoder | {"latent_avg": None}})
    for opts in ({"start_from_latent_avg": False}, Namespace(start_from_latent_avg=False)):
        with pytest.raises(ResourceError, match="trained with start_from_latent_avg=False"):
            nano(content | {"style_encoder_decoder": encoder | {"opts": opts}})


def test_a_file_that_is_not_ours_or_lacks_a_tensor(tmp_path: Path) -> None:
    tensors, header = nano(published(*networks(NANO)))
    path = tmp_path / "net.safetensors"
    save_file(tensors, path)
    with pytest.raises(ResourceError, match="not weights of VSPBFR"):
        load(path)
    save_file({key: t for key, t in tensors.items() if key != "latent_avg"}, path, header)
    with pytest.raises(ResourceError, match=r"does not fit the networks: .*latent_avg"):
        load(path)
    assert "latent_avg" not in load_file(path)
