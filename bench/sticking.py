"""Does what a restorer adds stay on the crop while the face moves under it?

    python bench/sticking.py --media DIR [--steps restore=ldbfr restore=vspbfr ...]

Noise that is fixed for a track could do that: pores that do not turn with the head. Of clean clips, damaged and
restored frame by frame (smooth=none), the added texture is taken: restored minus damaged, without what is coarser than
four px, in aligned crops of 256 px. Where the truth moves by more than 1.5 px within the crop in three frames, it is
compared with itself three frames later: at the same place of the crop (stays), and where the motion has carried it
(follows). Correlations; texture sticks where the first is the larger. The truth's own texture is given beside it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from quality import clean_clip, read, through_vidrestore, write

from vidrestore.quality.levels import LEVELS, damaged
from vidrestore.quality.measures import centre
from vidrestore.quality.steadiness import motion, warped

F32 = NDArray[np.float32]
CLIPS = ("clean_turn_720p.mp4", "clean_bigmotion_512.mp4", "clean_talk_mpeg4_512.mp4")
STEPS = ("restore=ldbfr", "restore=vspbfr", "restore=flipnet")
APART, LEAST, COARSE = 3, 1.5, 2.0  # frames; px of motion; sigma of what is taken off


def texture(faces: torch.Tensor) -> F32:
    """[t, h, w, 1]: luma of the face's centre without its coarse part."""
    luma = centre(faces).mean(1).numpy()
    return np.stack([y - cv2.GaussianBlur(y, (0, 0), COARSE) for y in luma])[..., None]


def compared(found: F32, flows: list[tuple[F32, NDArray[np.bool_]]]) -> tuple[float, float]:
    """How far texture [t, h, w, 1] is the same at the same place, and where the motion has carried it."""
    here, same, carried = (list[F32]() for _ in range(3))
    for t, (flow, trusted) in enumerate(flows):
        moving = trusted & (np.hypot(flow[..., 0], flow[..., 1]) > LEAST)
        here.append(found[t][moving])
        same.append(found[t + APART][moving])
        carried.append(warped(found[t + APART], flow).reshape(found[t].shape)[moving])
    a, b, c = (np.concatenate(x).ravel() for x in (here, same, carried))
    return float(np.corrcoef(a, b)[0, 1]), float(np.corrcoef(a, c)[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, required=True, help="folder of clean clips")
    parser.add_argument("--clips", nargs="+", default=list(CLIPS))
    parser.add_argument("--steps", nargs="+", default=list(STEPS), help="restore steps")
    parser.add_argument("--level", default="medium", choices=list(LEVELS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'clip':28s} {'texture of':28s}   stays  follows")
    for name in arguments.clips:
        clip = clean_clip(arguments.media / name)
        truth = clip.aligned(clip.frames)
        pictures = (centre(truth) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        flows = [motion(pictures[t], pictures[t + APART]) for t in range(len(pictures) - APART)]
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "damaged.mkv", Path(folder) / "out.mkv"
            write(damaged(clip.frames, arguments.level, clip.name, clip.eyes), source)
            given = clip.aligned(read(source))
            rows = {"the truth": texture(truth), "the damaged film": texture(given)}
            for step in arguments.steps:
                restored = clip.aligned(through_vidrestore(source, target, f"{step},smooth=none"))
                rows[step] = texture(restored - given)
        for row, found in rows.items():
            stays, follows = compared(found, flows)
            print(f"{name:28s} {row:28s} {stays:7.3f}  {follows:7.3f}", flush=True)


if __name__ == "__main__":
    main()
