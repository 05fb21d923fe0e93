"""Presets + chain + flags -> one frozen RunConfig that remembers where each value came from.

Precedence, lowest first: default < preset < config file < environment < flag. In a chain a step replaces the
lower layer's step of the same stage as a whole; stages not named keep it.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

import vidrestore
from vidrestore import options, registry
from vidrestore.chain import AV, STAGES, Chain, ChainError, Step, canon, filters, parse
from vidrestore.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

BASE: Final = "default"
ENVIRONMENT: Final = "VIDRESTORE_"


class Settings(BaseModel):
    """What is not an option of a plugin. Its fields are the keys of a preset's ``[settings]``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="default of every step's seed")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$", description="auto, cpu, cuda, cuda:N or mps")
    threads: int = Field(0, ge=0, description="CPU threads of the networks; 0 = chosen for this machine")
    encoder_threads: int = Field(0, ge=0, description="threads of the encoder; 0 = one and a half a core")
    window: int = Field(16, ge=1, le=256, description="frames that are restored together")
    batch: int = Field(16, ge=1, description="faces in one batch of the network")
    prefetch_mb: int = Field(128, ge=1, description="frames held between two threads, in megabytes")
    start: float | None = Field(None, ge=0, description="-ss: seconds from the film's start")
    end: float | None = Field(None, gt=0, description="-to: seconds from the film's start")
    assume_color: str | None = Field(None, description="what untagged colours are, e.g. bt709:limited")
    field_order: Literal["tff", "bff", "progressive"] | None = Field(
        None, description="what fields are, where flags are missing or wrong: tff, bff or progressive"
    )
    interlace: Literal["fields", "woven"] = Field(
        "fields", description="faces of interlaced films: restored field by field, or in frames as they are: woven"
    )
    video_stream: int | None = Field(None, ge=0, description="number of the stream to restore")
    strict: bool = Field(False, description="stop at the first fault of the input")
    keep_going: bool = Field(False, description="a broken-off input counts as success")
    keep_partial: bool = Field(False, description="leave an unfinished output beside the target")
    on_change: Literal["scale", "split"] = Field(
        "scale", description="pictures of another size or format on the way: scaled to the first, or split into files"
    )
    fallback_encoder: str | None = Field(None, description="libav's encoder that starts over where the first one fails")
    preserve: bool = Field(False, description="the output gets the source's modification time and permission bits")
    stamp: bool = Field(False, description="the time of the run goes into the output, as the tag VIDRESTORE_DATE")
    drop_alpha: bool = Field(False, description="let opacity go where the encoder cannot hold it")
    allow_network: bool = Field(False, description="open addresses: http://, rtsp:// and their like")
    allow_playlists: bool = Field(False, description="open lists of other files: m3u8, mpd, concat: and their like")
    pad_even: bool = Field(False, description="repeat the edge of odd pictures for encoders that need even ones")


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of values, e.g. a preset or the flags."""

    origin: str
    chain: Chain = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    encoder: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResolvedStep:
    """A step whose plugin and options are known and checked."""

    stage: str
    plugin: str
    options: BaseModel
    id: str | None
    origin: str
    origins: Mapping[str, str]  # option -> where its value came from

    def canon(self) -> str:
        name = self.stage if self.id is None else f"{self.stage}@{self.id}"
        return ":".join([f"{name}={self.plugin}", *options.write(self.options)])

    def make(self) -> Any:
        """A new instance of the plugin; cheap."""
        return registry.find(self.stage, self.plugin)(self.options)


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run does. Equal configs on equal input give equal frames."""

    preset: str
    steps: tuple[ResolvedStep, ...]
    settings: Settings
    settings_origins: Mapping[str, str]
    encoder: Mapping[str, str]  # ffmpeg's option names -> values
    encoder_origins: Mapping[str, str]
    before: Chain = ()  # libavfilter's steps on decoded frames
    after: Chain = ()  # ... and on finished ones

    def step(self, stage: str) -> ResolvedStep:
        return next(s for s in self.steps if s.stage == stage)

    @cached_property
    def chain(self) -> str:
        """The canonical chain: every stage, every option. It parses back to itself."""
        first = STAGES.index("detect")
        parts = [s.canon() for s in self.steps if STAGES.index(s.stage) < first]
        parts += [canon((step,)) for step in self.before]
        parts += [s.canon() for s in self.steps if first <= STAGES.index(s.stage) < STAGES.index("encode")]
        parts += [canon((step,)) for step in self.after]
        return ",".join([*parts, self.step("encode").canon()])

    @cached_property
    def chain_hash(self) -> str:
        return sha256(self.chain.encode()).hexdigest()


def resolve(
    *,
    preset: str | None = None,
    chain: str | None = None,
    settings: Mapping[str, Any] | None = None,
    encoder: Mapping[str, str] | None = None,
    config_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags_of: Mapping[str, Mapping[str, str | None]] | None = None,
    scale: float | None = None,
    deinterlace: bool = False,
) -> RunConfig:
    """One frozen configuration out of all layers. ``settings``, ``encoder`` and ``flags_of`` are those of flags; the
    last holds options of steps by stage, which count whatever else the chain says of that step. ``scale`` puts an
    enlargement behind the other filters on decoded frames, ``deinterlace`` a frame of every field before them.

    Raises:
        UsageError: unknown preset, plugin, option or value; names the nearest word.
    """
    env = os.environ if environment is None else environment
    name = preset or env.get(ENVIRONMENT + "PRESET") or BASE
    layers = [_preset_layer(BASE)]
    if name != BASE:
        layers.append(_preset_layer(name))
    layers += _user_file(config_file, env)
    layers.append(_environment_layer(env))
    flags = {k: v for k, v in (settings or {}).items() if v is not None}
    layers.append(Layer("flag", parse(chain) if chain is not None else (), flags, dict(encoder or {})))

    merged, origins = _merge((layer.settings, layer.origin) for layer in layers)
    known = _settings(merged, origins)
    all_origins = {key: origins.get(key, "built in") for key in Settings.model_fields}
    codec, codec_origins = _merge((layer.encoder, layer.origin) for layer in layers)
    seed_origin = all_origins["seed"]
    given = {stage: {k: v for k, v in table.items() if v is not None} for stage, table in (flags_of or {}).items()}
    steps = tuple(
        _resolve_step(step, origin, known.seed, seed_origin, given.get(step.stage, {}))
        for step, origin in _merged_chain(layers)
    )
    before, after = (_filters(layers, side) for side in (0, 1))
    before = (parse("av.bwdif=deint=interlaced") if deinterlace else ()) + before + _scaled(scale)
    return RunConfig(name, steps, known, all_origins, codec, codec_origins, before, after)


def presets() -> dict[str, str]:
    """Names of the shipped presets with their one-line descriptions."""
    return {path.stem: _toml(path).get("description", "") for path in sorted(_configs().glob("*.toml"))}


@cache
def blend_options(model: type[BaseModel]) -> type[BaseModel]:
    """A blend plugin's options with ``strength`` and ``grain``, which the engine offers for every one of them."""
    for name in ("strength", "grain"):
        if name in model.model_fields:
            raise ChainError(f"a blend plugin must not declare '{name}' itself")
    help = "share of the change that goes into the picture; 0 = none, auto = as much as each face is damaged"
    kind = Literal["auto"] | Annotated[float, Field(ge=0, le=1)]
    share = "share of the source's grain that a face which lost it gets back; 0 = none"
    return create_model(
        model.__name__,
        __base__=model,
        strength=(kind, Field("auto", description=help)),
        grain=(float, Field(0.0, ge=0, le=1, description=share)),
    )


def _configs() -> Path:
    """The presets' folder: inside the installed package, or beside it in a source tree."""
    package = Path(vidrestore.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(str(path), f"cannot be read: {error}", "see configs/default.toml") from error


def _preset_layer(name: str) -> Layer:
    path = Path(name) if name.endswith(".toml") else _configs() / f"{name}.toml"
    if not path.is_file():
        known = presets()
        raise UsageError("preset", f"no preset '{name}'{did_you_mean(name, known) or ';'} have: {' '.join(known)}")
    return _file_layer(path, f"preset {name}")


def _file_layer(path: Path, origin: str) -> Layer:
    table = _toml(path)
    for key in table:
        if key not in ("description", "chain", "settings", "encoder"):
            keys = ("chain", "settings", "encoder", "description")
            raise UsageError(str(path), f"unknown key '{key}'{did_you_mean(key, keys)}")
    chain = parse(table["chain"]) if "chain" in table else ()
    codec = {key: options.text(value) for key, value in table.get("encoder", {}).items()}
    return Layer(origin, chain, table.get("settings", {}), codec)


def _user_file(given: Path | None, env: Mapping[str, str]) -> list[Layer]:
    if given is not None:
        return [_file_layer(given, f"file {given}")]
    home = Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = home / "vidrestore" / "config.toml"
    return [_file_layer(path, f"file {path}")] if path.is_file() else []


def _environment_layer(env: Mapping[str, str]) -> Layer:
    found = {key: env[name] for key in Settings.model_fields if (name := ENVIRONMENT + key.upper()) in env}
    chain = env.get(ENVIRONMENT + "CHAIN")
    return Layer("environment", parse(chain) if chain else (), found, {})


def _merge(layers: Any) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for table, origin in layers:
        values |= table
        origins |= dict.fromkeys(table, origin)
    return values, origins


def _settings(values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    for key in values:
        if key not in Settings.model_fields:
            hint = did_you_mean(key, Settings.model_fields)
            raise UsageError(origins[key], f"no setting '{key}'{hint}", "see: vidrestore config show")
    try:
        found = Settings(**values)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        takes = options.wanted(Settings.model_fields[key])
        if key == "device":
            takes = "auto, cpu, cuda, cuda:N or mps"
        raise UsageError(origins[key], f"{key}: '{values[key]}' is not {takes}") from error
    if found.start is not None and found.end is not None and found.end <= found.start:
        raise UsageError(origins["end"], f"-to {found.end} is not after -ss {found.start}")
    return found


def _merged_chain(layers: list[Layer]) -> list[tuple[Step, str]]:
    found: dict[str, tuple[Step, str]] = {}
    for layer in layers:
        for step in layer.chain:
            if step.stage != AV and step.plugin is not None:
                found[step.stage] = (step, layer.origin)
    return [found[stage] for stage in STAGES]


def _filters(layers: list[Layer], side: int) -> Chain:
    """libavfilter's steps before the faces (0) or after them (1), of the highest layer that has some there."""
    return next((found for layer in reversed(layers) if (found := filters(layer.chain)[side])), ())


def _scaled(scale: float | None) -> Chain:
    """The filter that makes pictures so many times as large, sides even."""
    if scale is None:
        return ()
    if not 0.1 <= scale <= 8:
        raise UsageError("--scale", f"{scale:g} is not from 0.1 to 8")
    times = options.text(float(scale))
    return parse(f"av.scale=trunc({times}*iw/2+0.5)*2:trunc({times}*ih/2+0.5)*2:flags=lanczos")


def _resolve_step(step: Step, origin: str, seed: int, seed_origin: str, flags: Mapping[str, str]) -> ResolvedStep:
    plugin = step.plugin or ""
    try:
        model = options_model(step.stage, plugin)
    except UsageError as error:
        if step.plugin_column and origin == "flag":
            raise ChainError(error.what, step.plugin_column) from error
        raise
    args = options.overridden(model, plugin, step.args, flags)
    parsed = options.read(model, plugin, args, {"seed": seed})
    set_here = options.given(model, plugin, step.args)
    origins = {key: origin if key in set_here else "built in" for key in model.model_fields} | dict.fromkeys(
        flags, "flag"
    )
    if "seed" in origins and "seed" not in set_here:
        origins["seed"] = seed_origin
    return ResolvedStep(step.stage, plugin, parsed, step.id, origin, origins)


def options_model(stage: str, plugin: str) -> type[BaseModel]:
    """The option model of a step of this stage."""
    model = registry.options_of(registry.find(stage, plugin))
    return blend_options(model) if stage == "blend" else model
