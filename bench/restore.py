"""How fast faces are restored: the bare network, and the whole pipeline with the default chain.

    python bench/restore.py [CLIP] [--seconds 8] [--device cuda] [--weights FILE]

Bare: the network alone on batches of crops, one CPU thread (or the GPU), `fast` and `diffusion` with 4 and 20
steps. Parts that the weights lack are made at random: they cost the same. Pipeline: `vidrestore CLIP` on all cores,
start-up left out, and its share of the bare network's speed. Without CLIP the one of `vidrestore demo` is looped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidrestore.demo.clip import RATE, SOUND_RATE, tone
from vidrestore.media.making import read_frames, write_film
from vidrestore.testing import restored_faces
from vidrestore.types import FaceBatch
from vidrestore.weights.store import weights_path
from vidrestore_plugins.restore.ldbfr.files import load, save
from vidrestore_plugins.restore.ldbfr.model import LDBFR
from vidrestore_plugins.restore.ldbfr.plugin import LDBFROptions, LDBFRRestorer

BAR = 8.0  # faces a second, whole pipeline, two unloaded cores
MODES: dict[str, dict[str, Any]] = {
    "fast": {},
    "diffusion, 4 steps": {"mode": "diffusion", "steps": 4},
    "diffusion, 20 steps": {"mode": "diffusion", "steps": 20},
}


def bare(weights: Path, device: torch.device, batch: int, rounds: int) -> dict[str, float]:
    """Faces a second of each mode, medians."""
    found = {}
    for name, options in MODES.items():
        plugin = LDBFRRestorer(LDBFROptions(weights=str(weights), **options))
        plugin.open(device)
        crops = torch.rand(batch, 3, plugin.size, plugin.size, device=device)
        zeros = np.zeros(batch, np.int64)
        one = torch.ones(batch, 32, 32, device=device)
        faces = FaceBatch(crops, np.arange(batch), zeros, np.zeros(batch), one, np.ones(batch, np.float32))
        times = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            restored_faces(plugin, faces)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        found[name] = batch / statistics.median(times[1:])
        print(f"bare, {name:20s} {found[name]:8.2f} faces/s", flush=True)
    return found


def whole(weights: Path) -> LDBFR:
    """The weights with what they lack made at random."""
    net, parts = load(weights)
    fresh = LDBFR(net.size)
    for part in parts:
        getattr(fresh, part).load_state_dict(getattr(net, part).state_dict())
    return fresh


def pipeline(clip: Path, folder: Path, seconds: float, device: str, step: str) -> float:
    """Faces a second: what a long run has more of than a short one, so that start-up does not count."""
    ends = [_run(clip, folder, part, device, step) for part in (1.0, seconds)]
    return (ends[1][0] - ends[0][0]) / (ends[1][1] - ends[0][1])


def _run(clip: Path, folder: Path, seconds: float, device: str, step: str) -> tuple[int, float]:
    """Faces, and seconds of wall time, of the film's first part."""
    out = folder / "out.mkv"
    command = [sys.executable, "-m", "vidrestore", str(clip), "-o", str(out), "-y", "-to", str(seconds)]
    chain = ["-vf", f"{step},blend=feather:strength=1", "--device", device]
    start = time.perf_counter()
    subprocess.run([*command, *chain], check=True, capture_output=True)
    spent = time.perf_counter() - start
    return json.loads(Path(f"{out}.json").read_text(encoding="utf-8"))["faces"], spent


def looped(folder: Path, given: Path | None, seconds: float) -> Path:
    """CLIP, or the demonstration's clip, repeated to length."""
    if given:
        return given
    subprocess.run([sys.executable, "-m", "vidrestore", "demo", "-o", str(folder)], check=True, capture_output=True)
    single, joined = folder / "demo.damaged.mp4", folder / "clip.mkv"
    frames = read_frames(single)
    copies = -(-round(seconds * RATE) // len(frames))
    write_film(joined, np.concatenate([frames] * copies), RATE, tone(), SOUND_RATE, overwrite=True)
    return joined


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", help="film with faces")
    parser.add_argument("--seconds", type=float, default=8.0, help="how much of it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", default="ldbfr_tiny", help="name or file")
    parser.add_argument("--batch", type=int, default=8, help="crops of the bare network")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    path = weights_path(arguments.weights)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        complete = folder / "whole.safetensors"
        save(whole(path), complete)
        alone = bare(complete, device, arguments.batch, arguments.rounds)["fast"]
        clip = looped(folder, arguments.clip, arguments.seconds)
        rate = pipeline(clip, folder, arguments.seconds, arguments.device, f"restore=ldbfr:weights={path}")
    verdict = "pass" if rate >= BAR else "MISSED"
    print(f"pipeline, default chain      {rate:8.2f} faces/s >= {BAR:.0f}  {verdict}")
    print(f"share of the bare network    {rate / alone:8.2f}")
    return int(rate < BAR)


if __name__ == "__main__":
    sys.exit(main())
