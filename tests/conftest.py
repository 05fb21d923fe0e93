"""Fixtures and switches that all tests share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # fakes.py and its like

torch.set_num_threads(1)  # tests share the cores with one another; spinning pools are slower than none
MEDIA = os.environ.get("VIDRESTORE_MEDIA")


def pytest_configure(config: pytest.Config) -> None:
    import hypothesis

    hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=60)
    hypothesis.settings.load_profile("repeatable")
    os.environ.setdefault("XDG_CONFIG_HOME", "/nonexistent")  # nobody's own settings reach a test


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests on real clips run where VIDRESTORE_MEDIA names their folder; elsewhere they are not collected."""
    if MEDIA:
        return
    chosen = [i for i in items if i.get_closest_marker("media") is None]
    config.hook.pytest_deselected(items=[i for i in items if i not in chosen])
    items[:] = chosen


@pytest.fixture(scope="session")
def media() -> Path:
    assert MEDIA, "tests that use clips are marked media"
    return Path(MEDIA)
