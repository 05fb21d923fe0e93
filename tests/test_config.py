"""One frozen configuration out of all layers, and where each value came from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrestore.chain import ChainError, parse
from vidrestore.config import RunConfig, presets, resolve
from vidrestore.errors import ResourceError, UsageError

NOBODY = {"XDG_CONFIG_HOME": "/nonexistent"}


def config(**given: object) -> RunConfig:
    return resolve(environment=NOBODY, **given)  # type: ignore[arg-type]


def test_the_canonical_chain_resolves_to_itself() -> None:
    first = config(chain="detect=retinaface:0.55:every=3,blend=feather:16")
    again = config(chain=first.chain)
    assert again.chain == first.chain and again.chain_hash == first.chain_hash
    assert "detect=retinaface:threshold=0.55:every=3" in first.chain
    assert "blend=feather:radius=16" in first.chain and "strength=auto" in first.chain
    assert [s.stage for s in parse(first.chain)] == [s.stage for s in first.steps]


@given(st.floats(0.05, 0.99), st.integers(1, 16), st.floats(0, 1) | st.just("auto"))
def test_values_survive_the_canonical_form(threshold: float, every: int, strength: float | str) -> None:
    text = f"detect=retinaface:{threshold!r}:every={every},blend=feather:strength={strength}"
    once = config(chain=text)
    again = config(chain=once.chain)
    assert once.step("detect").options == again.step("detect").options
    assert once.step("blend").options == again.step("blend").options


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ("restore=clasic", "chain: col 9: no restore plugin 'clasic'; did you mean 'classic'? have: "),
        ("restore=classic:detial=1", "chain: col 17: classic has no option 'detial'; did you mean 'detail'?"),
        ("detect=retinaface:every=two", "chain: col 25: every: 'two' is not a whole number from 1 to 16"),
        ("detect=retinaface:every=0", "chain: col 25: every: '0' is not a whole number from 1 to 16"),
        ("restore=classic:detail=1:7", "chain: col 26: '7' comes after a named option; write denoise=7"),
        ("detect=none:3", "chain: col 13: '3' is one value too many: none has no options"),
        ("restore=classic:size=256:size=512", "chain: col 26: size is given twice"),
        ("blend=feather:strength=2", "chain: col 24: strength: '2' is not auto or a number from 0 to 1"),
        ("blend=feather:strength=nan", "chain: col 24: strength: 'nan' is not auto or a number from 0 to 1"),
        ("blend=none:strength=automatic", "chain: col 21: strength: 'automatic' is not auto or a number from 0 to 1"),
        ("assess=non", "chain: col 8: no assess plugin 'non'; did you mean 'none'?"),
    ],
)
def test_wrong_options_say_what_is_right(chain: str, message: str) -> None:
    with pytest.raises(ChainError) as caught:
        config(chain=chain)
    assert str(caught.value).startswith(message)


def test_strength_is_never_the_first_positional_option() -> None:
    options = config(chain="blend=feather:16").step("blend").options
    assert (options.radius, options.strength) == (16, "auto")  # type: ignore[attr-defined]
    with pytest.raises(ChainError, match=r"one value too many|strength"):
        config(chain="blend=none:0.5:0.5:0.5")


def test_precedence_and_origins(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('chain = "detect=retinaface:every=4"\n[settings]\nseed = 3\nbatch = 5\n[encoder]\ncrf = 20\n')
    env = {**NOBODY, "VIDRESTORE_SEED": "4", "VIDRESTORE_DEVICE": "cpu"}
    found = resolve(
        preset="preview", config_file=file, environment=env, settings={"batch": 2}, encoder={"preset": "slow"}
    )
    assert found.step("detect").options.every == 4  # type: ignore[attr-defined]
    assert found.step("detect").origins["every"] == f"file {file}"
    assert found.step("track").origin == "preset default"
    assert (found.settings.seed, found.settings_origins["seed"]) == (4, "environment")
    assert (found.settings.batch, found.settings_origins["batch"]) == (2, "flag")
    assert (found.encoder["crf"], found.encoder_origins["crf"]) == ("20", f"file {file}")
    assert (found.encoder["preset"], found.encoder_origins["preset"]) == ("slow", "flag")
    assert found.encoder_origins["c:v"] == "preset preview"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "archiv"}, "preset: no preset 'archiv'; did you mean 'archive'?"),
        ({"settings": {"seeed": 3}}, "flag: no setting 'seeed'; did you mean 'seed'?"),
        ({"settings": {"batch": "many"}}, "flag: batch: 'many' is not a whole number ≥ 1"),
        ({"settings": {"device": "gpu"}}, "flag: device: 'gpu' is not auto, cpu, cuda, cuda:N or mps"),
        ({"settings": {"start": 5.0, "end": 2.0}}, "flag: -to 2.0 is not after -ss 5.0"),
    ],
)
def test_wrong_settings_say_what_is_right(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        config(**given)
    assert str(caught.value).startswith(message)


def test_a_wrong_key_in_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('chian = "restore=none"\n')
    with pytest.raises(UsageError, match="unknown key 'chian'; did you mean 'chain'"):
        config(config_file=file)
    file.write_text("seed = = 3\n")
    with pytest.raises(UsageError, match="cannot be read"):
        config(config_file=file)


def test_every_shipped_preset_resolves_and_is_described() -> None:
    found = presets()
    assert {"default", "archive", "preview"} <= set(found)
    for name, description in found.items():
        assert description and config(preset=name).steps


def test_a_plugin_in_a_single_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from pydantic import BaseModel\n"
        "class O(BaseModel):\n    side_px: int = 320\n"
        "class Mine:\n    Options = O\n    every = 1\n    side = 320\n"
        "    def __init__(self, options): self.options = options\n"
        "    def open(self, device): ...\n    def detect(self, images): return []\n"
        "class Half:\n    Options = O\n"
    )
    found = config(chain=f"detect={file}:Mine:side_px=99")
    assert found.step("detect").make().options.side_px == 99
    assert config(chain=found.chain).chain == found.chain
    with pytest.raises(ResourceError, match="lacks open, detect"):
        config(chain=f"detect={file}:Half")
    with pytest.raises(UsageError, match="no class 'None_'"):
        config(chain=f"detect={file}:None_")
    with pytest.raises(UsageError, match="no plugin file"):
        config(chain="detect=./missing.py:Mine")


HEAVY = {"torch", "torchvision", "av", "cv2", "kornia", "decord", "facexlib", "scenedetect", "diffusers"}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["plugins"], ["plugins", "--json"], ["config", "show"], ["weights", "--help"], ["train"],
     ["evaluate", "--help"]],
)  # fmt: skip
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from vidrestore.cli import run\n"
        f"code = run({arguments!r})\n"
        "print(*(m for m in sys.modules if '.' not in m), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    allowed = {"av"} if arguments == ["config", "show"] else set()  # its decoder's options lie beside PyAV's reader
    assert not (HEAVY - allowed) & loaded
