"""A sheet of frames before and after, to be looked at: python bench/contact_sheet.py BEFORE AFTER OUT.png

Each column is one frame, evenly spaced over the film: the source, the result, and their difference times four
around grey. With ``--faces`` the columns are cut around the face that the run record (AFTER.json) names first.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import av
import numpy as np
from PIL import Image


def frames(path: str, wanted: set[int]) -> dict[int, np.ndarray]:
    found = {}
    with av.open(path, metadata_errors="surrogateescape") as film:
        stream = max(film.streams.video, key=lambda s: s.width * s.height)
        for i, frame in enumerate(film.decode(stream)):
            if i in wanted:
                found[i] = frame.to_ndarray(format="rgb24")
    return found


def count(path: str) -> int:
    with av.open(path, metadata_errors="surrogateescape") as film:
        stream = max(film.streams.video, key=lambda s: s.width * s.height)
        return sum(1 for _ in film.decode(stream))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("out")
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--width", type=int, default=320, help="px of a column")
    parser.add_argument("--faces", action="store_true", help="cut around the first track of AFTER.json")
    parser.add_argument("--box", type=float, nargs=4, help="cut out x0 y0 x1 y1")
    args = parser.parse_args()
    n = count(args.after)
    wanted = {int(i) for i in np.linspace(0, n - 1, args.columns)}
    before, after = frames(args.before, wanted), frames(args.after, wanted)
    box = args.box
    if args.faces:
        tracks = json.loads(Path(args.after + ".json").read_text())["tracks"]
        x0, y0, x1, y1 = max(tracks, key=lambda t: t["frames"])["box"]
        w, h = x1 - x0, y1 - y0
        box = [x0 - 0.4 * w, y0 - 0.4 * h, x1 + 0.4 * w, y1 + 0.4 * h]
    columns = []
    for i in sorted(set(before) & set(after)):
        a, b = before[i], after[i]
        if box:
            x0, y0, x1, y1 = (max(0, int(v)) for v in box)
            a, b = a[y0:y1, x0:x1], b[y0:y1, x0:x1]
        difference = np.clip(128 + 4 * (b.astype(int) - a), 0, 255).astype(np.uint8)
        height = round(a.shape[0] * args.width / a.shape[1])
        cells = [Image.fromarray(p).resize((args.width, height), Image.Resampling.LANCZOS) for p in (a, b, difference)]
        columns.append(np.concatenate([np.asarray(c) for c in cells]))
    Image.fromarray(np.concatenate(columns, 1)).save(args.out)


if __name__ == "__main__":
    main()
