"""Weights, noise and pictures that anyone can make again from their names, and what golden numbers say of a tensor.

The numbers in golden.json were made with the public code LonglongaaaGo/VSPBFR (commit e1f9987) on a CPU, torch 2.13,
numpy 2.4, in f64; all weights, inputs and noise maps are f32 numbers. A record is [mean, standard deviation, largest
absolute value, the values at 0, n/7, n/3, n/2, 2n/3, n-1 of the flattened tensor].
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden.json").read_text())
GENERATORS = ("decoder", "g_ema", "d")


def normal(name: str, *shape: int) -> Tensor:
    """Standard normal numbers, f32, seeded by a name."""
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    return torch.from_numpy(draw.standard_normal(shape).astype(np.float32))


def picture(side: int, b: int = 0) -> Tensor:
    """Two waves a channel, [1, 3, side, side] in -0.9..0.9, f32; ``b`` moves them."""
    y, x = np.meshgrid(np.arange(side) / side, np.arange(side) / side, indexing="ij")
    turn = 2 * np.pi
    waves = [
        0.6 * np.sin(turn * (3 * x + 2 * y) + c + b) + 0.3 * np.cos(turn * (11 * x - 7 * y) + 2 * c - b)
        for c in range(3)
    ]
    return torch.from_numpy(np.stack(waves)[None].astype(np.float32))


def filled(net: Net, rules: str, prefix: str) -> Net:
    """The network with weights by name ("prefix/key") under the rules of one of the networks."""
    for key, tensor in net.state_dict().items():
        if tensor.is_floating_point() and not key.endswith("kernel"):
            tensor.copy_(value(rules, key, normal(f"{prefix}/{key}", *tensor.shape)))
    return net.eval().requires_grad_(False)


def value(rules: str, key: str, n: Tensor) -> Tensor:
    last, generator = key.rpartition(".")[2], rules in GENERATORS
    if last == "running_var":
        return 1 + 0.1 * n.abs()
    if last == "running_mean":
        return 0.1 * n
    if last == "weight":
        return weight(rules, key, n)
    if last != "bias":
        return n
    if key.endswith("modulation.bias"):
        return 1 + 0.1 * n
    return (10 if generator and key.startswith("style.") else 0.1) * n


def weight(rules: str, key: str, n: Tensor) -> Tensor:
    if n.shape == (1,):  # strength of noise
        return 0.1 + 0.02 * n
    if n.ndim == 1:
        slope = key.endswith(("input_layer.2.weight", "res_layer.2.weight"))
        return 0.25 + 0.05 * n if slope else 1 + 0.1 * n
    if rules == "g_ema" and "to_rgb" in key and key.endswith(".conv.weight"):
        return 0.02 * n
    if rules in GENERATORS:
        return 100 * n if key.startswith("style.") else n
    if key.startswith("styles.") and key.endswith("linear.weight"):
        return n
    return n * np.float32(gain(key) / np.sqrt(n[0].numel()))


def gain(key: str) -> float:
    if key.startswith("styles."):
        return float(np.sqrt(2))
    if "attention_layer." in key:
        return 8.0 if key.endswith("v_matrix.weight") else 1.0
    return 0.1 if key.endswith("q_matrix.weight") else 1.0


def maps(net: str, paths: Sequence[str], sides: Sequence[int]) -> list[Tensor]:
    """Noise maps of the layers at these paths."""
    return [normal(f"noise/{net}/{path}.noise", 1, 1, s, s) for path, s in zip(paths, sides, strict=True)]


def generator_paths(layers: int) -> list[str]:
    return ["conv1", *(f"convs.{i}" for i in range(layers - 1))]


def restoration_paths(doublings: int) -> list[str]:
    return [f"encoder_convs.{i}" for i in range(2 * doublings)] + generator_paths(2 * doublings + 1)


def record(t: Tensor) -> list[float]:
    flat = t.detach().double().flatten()
    n = len(flat)
    at = flat[[0, n // 7, n // 3, n // 2, 2 * n // 3, n - 1]]
    return [float(flat.mean()), float(flat.std(correction=0)), float(flat.abs().max()), *at.tolist()]


def deviation(found: list[float], golden: list[float]) -> float:
    """The largest difference of two records, over the largest absolute value."""
    return max(abs(a - b) for a, b in zip(found, golden, strict=True)) / golden[2]


def watch(net: nn.Module, prefix: str, seen: dict[str, list[float]]) -> None:
    """Puts down records of what the network's layers give, and their lists' members."""
    for name, module in net.named_modules():
        if name.count(".") < 2:
            module.register_forward_hook(put(seen, f"{prefix}.{name}"))


def put(seen: dict[str, list[float]], name: str) -> Callable[..., None]:
    def hook(_module: nn.Module, _given: Any, out: Any) -> None:
        if isinstance(out, Tensor):
            seen[name] = record(out)

    return hook
