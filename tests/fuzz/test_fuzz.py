"""A bounded share of the fuzzer's cases; `tests/fuzz/fuzz.py` runs as many as one likes."""

from __future__ import annotations

from pathlib import Path

import fuzz
import pytest


def test_broken_chains_manifests_presets_and_weights_end_in_one_line() -> None:
    codes, faults = fuzz.run(fuzz.options(["--count", "80", "--quiet"]))
    assert not faults, faults
    assert codes.total() == 80 and len({key.split()[0] for key in codes}) == 4


@pytest.mark.media
def test_broken_films_end_in_one_line(media: Path) -> None:
    codes, faults = fuzz.run(fuzz.options(["--count", "40", "--quiet", "--kinds", "media", "--media", str(media)]))
    assert not faults, faults
    assert codes.total() == 40 and {"media 0", "media 4", "media 6"} & set(codes)


@pytest.mark.parametrize(
    ("code", "said", "memory", "wrong"),
    [
        (0, "", 0, False),
        (4, "vidrestore: warning: x\nvidrestore: error: a: b", 0, False),
        (1, "vidrestore: error: internal: KeyError", 0, True),
        (4, "Traceback (most recent call last):\n  ...", 0, True),
        (2, "", 0, True),
        (0, "", 3 << 30, True),
    ],
)
def test_what_counts_as_a_fault(code: int, said: str, memory: int, wrong: bool) -> None:
    assert bool(fuzz.fault(code, said, memory)) is wrong
