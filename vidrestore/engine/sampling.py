"""A few pictures from all over a film, by whichever plugin gives them quickest and can be trusted with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vidrestore import registry
from vidrestore.engine.flags import read_settings
from vidrestore.errors import InputMediaError, ResourceError
from vidrestore.hooks import Sampler
from vidrestore.media.sampling import pictures_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vidrestore.config import RunConfig
    from vidrestore.media.probe import MediaInfo
    from vidrestore.notes import Notes
    from vidrestore.types import Frame


def sampled(info: MediaInfo, config: RunConfig, seconds: Sequence[float], notes: Notes) -> tuple[list[Frame], str]:
    """A picture near each of these times (seconds from the film's beginning), and who gave them. Why a sampler does
    not take the film is noted for the record."""
    begins = float(info.start_time)
    for name, sampler in _samplers():
        try:
            return list(sampler.sample(info, [begins + s for s in seconds])), name
        except (InputMediaError, ResourceError) as error:
            notes.warn("sampler_refused", error.subject, error.what, quiet=True)
    step = config.step("decode")
    return list(pictures_at(step.make(), info.path, read_settings(config), seconds)), step.plugin


def _samplers() -> Iterator[tuple[str, Any]]:
    """The decode plugins that give single pictures."""
    for name, entry in registry.entries("decode").items():
        plugin = entry.load()
        if hasattr(plugin, Sampler.sample.__name__):
            yield name, plugin(plugin.Options())
