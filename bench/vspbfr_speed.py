"""How fast VSPBFR's networks are beside a plain transcription of their published graph, in one run.

    python bench/vspbfr_speed.py [--device cuda --precision bf16 --batches 1 8 32] [--rounds 3]

Published size, random weights (they cost the same), faces of 512 px. Both get the same faces and the same noise (that
they then give the same pictures, tests/vspbfr/test_vspbfr_reference.py shows); they take turns, and their medians are
compared. On a GPU the transcription runs in f32 as it is published, and ours is also held against what an H200's
memory and arithmetic would allow.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from vspbfr_reference import Reference

from vidrestore_plugins.restore.vspbfr.bank import Generator
from vidrestore_plugins.restore.vspbfr.model import VSPBFR, Given
from vidrestore_plugins.restore.vspbfr.sizes import PUBLISHED, Size

BARS = {"cpu": 1.6, "cuda": 5.0}  # times as fast as the transcription
FLOOR = {1: 1.20, 8: 1.09, 32: 1.09}  # ms a face, H200, bf16: each layer bound by its traffic or its arithmetic


def pair(size: Size, faces: int, dtype: torch.dtype = torch.float32) -> tuple[Callable[[], Tensor], ...]:
    """The transcription, and ours, on the same faces with the same noise, on the default device."""
    place = torch.get_default_device()
    net, generator = VSPBFR(size).eval().requires_grad_(False), Generator(size).requires_grad_(False)
    for p in (*net.parameters(), *generator.parameters()):
        if p.ndim == 1:  # strengths of noise and biases, which are idle at birth
            p.add_(0.1 * torch.randn_like(p))
    own = net.bank.state_dict()
    net.bank.load_state_dict({key: t for key, t in generator.state_dict().items() if key in own})
    state = {key: t.clone() for key, t in net.state_dict().items() if not key.startswith("bank.")}
    state |= {f"bank.{key}": t for key, t in generator.state_dict().items()}
    x = torch.rand(faces, 3, size.side, size.side) * 2 - 1
    start, z = torch.randn(faces, size.codes, size.style_dim), torch.randn(faces, size.style_dim)
    bank = maps("bank", ["conv1", *(f"convs.{i}" for i in range(len(generator.convs)))], generator.noise_sides, faces)
    layers = [f"encoder_convs.{i}" for i in range(len(net.restoration.encoder_convs))]
    layers += ["conv1", *(f"convs.{i}" for i in range(len(net.restoration.convs)))]
    restoration = maps("restoration", layers, net.restoration.noise_sides, faces)

    def published() -> Tensor:
        return Reference(size, state)(x, start, z, lambda path, _: (bank | restoration)[path])

    seen = [m.to(dtype) for m in (*list(bank.values())[: len(net.bank.noise_sides)], *restoration.values())]
    many = len(net.bank.noise_sides)
    given = Given(start, net.held(z[:, None]), seen[:many], seen[many:])
    net.placed(place, dtype)
    return published, lambda: net(x, given)


def maps(network: str, layers: list[str], sides: list[int], faces: int) -> dict[str, Tensor]:
    """Noise of the layers, by their path."""
    return {f"{network}.{path}": torch.randn(faces, 1, s, s) for path, s in zip(layers, sides, strict=True)}


def timed(run: Callable[[], Tensor]) -> float:
    """Seconds."""
    start = time.perf_counter()
    run().sum().item()  # waits for the device
    return time.perf_counter() - start


@torch.inference_mode()
def measure(faces: int, dtype: torch.dtype, rounds: int, bar: float) -> bool:
    published, ours = pair(PUBLISHED, faces, dtype)
    times = [(timed(published), timed(ours)) for _ in range(rounds + 1)][1:]
    slow, fast = (1000 * statistics.median(column) / faces for column in zip(*times, strict=True))
    verdict = f"{slow / fast:.2f} >= {bar} {'pass' if slow >= bar * fast else 'MISSED'}"
    line = f"batch {faces:2d}: published {slow:9.2f} ms a face, ours {fast:9.2f}, ratio {verdict}"
    if faces in FLOOR and torch.get_default_device().type == "cuda":
        line += f", {fast / FLOOR[faces]:.1f} times the floor"
    print(line, flush=True)
    return slow >= bar * fast


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16", "float16"], default="float32", help="of ours")
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    torch.set_default_device(arguments.device)
    bar = BARS[torch.device(arguments.device).type]
    done = [measure(n, getattr(torch, arguments.precision), arguments.rounds, bar) for n in arguments.batches]
    return int(not all(done))


if __name__ == "__main__":
    sys.exit(main())
