"""The plugins of a chain, made and opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from vidrestore.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from vidrestore.config import RunConfig
    from vidrestore.engine.pipeline import Stages
    from vidrestore.engine.record import Record
    from vidrestore.hooks import Restorer


def stages_of(config: RunConfig, record: Record) -> Stages:
    """All plugins of the chain, made and opened; their weights go into the record."""
    import torch

    from vidrestore.engine.gate import Gate
    from vidrestore.engine.pipeline import Stages, device_of
    from vidrestore.engine.restore import Plugins

    s = config.settings
    device = device_of(s.device)
    threads = s.threads or network_threads()
    torch.set_num_threads(threads)
    blend: Any = config.step("blend").options
    auto = blend.strength == "auto"  # a fixed strength needs nobody to say how damaged a face is
    gate: Any = config.step("gate").options
    asked = [*(["assess"] if auto else []), *(["embed"] if gate.mode != "off" else [])]
    used = ("detect", "track", "align", "restore", "smooth", "blend", *asked)
    plugins = {stage: config.step(stage).make() for stage in used}
    _check_latents(config, plugins["restore"])
    for stage in ("detect", "restore", *asked):
        plugins[stage].open(device)
    record.device = f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)
    record.torch_threads = threads
    record.weights = weight_hashes(plugins.values())
    restore = config.step("restore")
    return Stages(
        detector=plugins["detect"],
        tracker=plugins["track"],
        align=plugins["align"],
        restore=Plugins(
            plugins["restore"], plugins["smooth"], plugins["blend"], plugins["assess"] if auto else blend.strength,
            getattr(restore.options, "seed", s.seed), device,
            blend.grain, Gate(gate, plugins["embed"]) if "embed" in plugins else None,
        ),
        window=s.window,
        batch=s.batch,
        prefetch=s.prefetch_mb << 20,
        torch_threads=threads,
    )  # fmt: skip


def _check_latents(config: RunConfig, restorer: Restorer) -> None:
    """Refuse a smoother that is told of latents that nobody yields."""
    from vidrestore.engine.latents import CROP, OUTPUT

    known = (CROP, *restorer.latents, OUTPUT)
    for name in (getattr(config.step("smooth").options, "latents", None) or "").split("+"):
        if name and name not in known:
            made_by = f"restore={config.step('restore').plugin}"
            what = f"{made_by} yields no latent '{name}'{did_you_mean(name, known) or ';'} have: {' '.join(known)}"
            raise UsageError(f"smooth={config.step('smooth').plugin}", what)


def network_threads() -> int:
    """CPU threads of the networks: half the cores, the others decode and encode."""
    return max(1, (os.cpu_count() or 1) // 2)


def weight_hashes(plugins: Any) -> dict[str, str]:
    """Name -> SHA-256 of every weights file in use."""
    from vidrestore.weights.store import file_hash, weights_path

    names = sorted({name for plugin in plugins for name in getattr(plugin, "weights", ())})
    return {name: file_hash(weights_path(name)) for name in names}
