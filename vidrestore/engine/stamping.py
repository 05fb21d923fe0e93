"""Times and modes of an output's file: by themselves they are its own, and no run leaves its date in a film."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from vidrestore.errors import UsageError
from vidrestore.media.heads import DATE
from vidrestore.media.publish import state_of

if TYPE_CHECKING:
    from vidrestore.config import RunConfig


def stamp(config: RunConfig) -> dict[str, str]:
    """The time of the run as a tag, in UTC by ISO 8601, where that is asked for."""
    return {DATE: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")} if config.settings.stamp else {}


def check_preserve(source: str, target: str | None) -> None:
    """Refuse to give a pipe the time and mode of a file, or a file those of a pipe. Raises UsageError (2), and
    InputAccessError (3) for a source that cannot be looked at."""
    if target == "-":
        raise UsageError("--preserve", "standard output has no time and no mode", "leave it out, or add -o FILE")
    state_of(source)
