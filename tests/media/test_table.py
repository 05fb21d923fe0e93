"""The tables of docs/media.md: every class has a test, every line of them says that all is well."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT / "bench"))

import media_table  # noqa: E402 - bench is no package


def test_every_class_has_tests_that_the_table_names() -> None:
    rows = [line.split("\t") for line in media_table.ROWS.read_text(encoding="utf-8").splitlines()]
    assert [int(number) for number, _, _ in rows] == list(range(1, 111))
    found, text = media_table.tests_of_rows(), (ROOT / "docs" / "media.md").read_text(encoding="utf-8")
    assert sorted(found) == list(range(1, 111)), "a test carries the number of a row that is none"
    for number, what, done in rows:
        line = next(line for line in text.splitlines() if line.startswith(f"| {number} | "))
        assert what in line and done in line, f"row {number}: run bench/media_table.py --rows"
        missing = [name for name in found[int(number)] if name.partition("::")[2][8:] not in line]
        assert not missing, f"row {number}: {missing}: run bench/media_table.py --rows"


def test_nothing_in_the_tables_is_wrong() -> None:
    text = (ROOT / "docs" / "media.md").read_text(encoding="utf-8")
    assert "FAILED" not in text and "WRONG" not in text
    counted = re.findall(r"^(\d+) of (\d+) as they should be\.$", text, re.MULTILINE)
    assert [(int(a), int(b)) for a, b in counted] == [(45, 45), (113, 113)]
