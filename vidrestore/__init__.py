"""Restores faces in video: steady from frame to frame, everything else untouched."""

from vidrestore.version import __version__

__all__ = ["__version__"]
