"""Makes docs/before_after.png: python bench/readme_picture.py

A public-domain photograph (NASA's portrait of Eileen Collins, as scikit-image carries it) is damaged like an old
web video, restored with the default chain, and shown: damaged, restored, and the difference times four.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import astronaut

OUT = Path(__file__).parent.parent / "docs" / "before_after.png"


def damaged(seed: int = 0) -> Image.Image:
    """Reduced to a quarter, sensor noise, JPEG, enlarged again."""
    rng = np.random.default_rng(seed)
    small = np.asarray(Image.fromarray(astronaut()).resize((240, 240), Image.Resampling.BOX), np.float32)
    noisy = (small + rng.normal(0, 5, small.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=55)
    return Image.open(file).convert("RGB").resize((1024, 1024), Image.Resampling.BICUBIC)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.png"), Path(folder, "after.png")
        damaged().save(before)
        subprocess.run([sys.executable, "-m", "vidrestore", str(before), "-o", str(after)], check=True)
        face = (330, 90, 600, 360)
        cut = [
            Image.open(p).convert("RGB").crop(face).resize((400, 400), Image.Resampling.LANCZOS)
            for p in (before, after)
        ]
    a, b = map(np.asarray, cut)
    difference = np.clip(128 + 4 * (b.astype(int) - a), 0, 255).astype(np.uint8)
    gap = np.full((a.shape[0], 8, 3), 255, np.uint8)
    Image.fromarray(np.concatenate([a, gap, b, gap, difference], 1)).quantize(256).save(OUT, optimize=True)
    print(OUT, OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
