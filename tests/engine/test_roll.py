"""Entries that are final take little room and are told of as before."""

from __future__ import annotations

import sys

from vidrestore.engine.record import Shot, TrackRecord
from vidrestore.engine.roll import Roll


def test_all_come_out_in_their_order() -> None:
    roll = Roll[Shot]()
    for i in range(300):
        roll.setdefault(i, Shot(i, 10 * i, 1000 * i))
        if i % 7 == 0:
            roll.close()
    assert len(roll) == 300
    assert [shot.first_frame for shot in roll.values()] == list(range(0, 3000, 10))
    assert [shot.shot for shot in roll.values()] == list(range(300)), "any number of times"


def test_an_open_entry_is_one_and_the_same() -> None:
    roll = Roll[Shot]()
    first = roll.setdefault(3, Shot(3, 0, 0))
    assert roll.setdefault(3, Shot(3, 9, 9)) is first is roll.get(3)
    roll.close()  # too few to be packed
    assert roll.get(3) is first and roll.get(4) is None


def test_ten_thousand_faces_take_little() -> None:
    roll = Roll[TrackRecord]()
    for i in range(10_000):
        track = TrackRecord(i, i // 2, 9 * i, 9 * i + 8, 600 * i, 600 * i + 500)
        track.box, track.score, track.mask_area = [i % 640 + 0.1, i % 360 + 0.7, 99.5, 120.3], 0.9, 3000.0 + i % 97
        roll.setdefault(i, track)
        if i % 10 == 9:
            roll.close()
    assert sum(map(sys.getsizeof, roll._pages)) < 10_000 * 120  # seven times as much as objects
