"""The names a plugin may import. Nothing else of vidrestore is promised to plugins.

Names bound to torch are resolved on first use, so that a plugin's option table stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vidrestore.errors import InputMediaError, ResourceError, RunError, UsageError, VidrestoreError, did_you_mean
from vidrestore.hooks import Assessor, Blender, Context, Degrader, Detector, Embedder, Restorer, Smoother, Tracker, Wear
from vidrestore.precision import PRECISION_HELP, Precision, dtype_of
from vidrestore.types import Damage, FaceBatch, Faces, Film, Frame, Latent, Layout, Scene, Stretch

if TYPE_CHECKING:
    from vidrestore.media.encoding import Coding, VideoPlan
    from vidrestore.media.probe import MediaInfo
    from vidrestore.media.program_decoder import film_reader
    from vidrestore.media.program_encoder import Bare, film_writer
    from vidrestore.media.sampling import film_extent, rgb_frame
    from vidrestore.weights.store import weights_path, write_weights

_LAZY = {
    "Bare": "vidrestore.media.program_encoder",
    "Coding": "vidrestore.media.encoding",
    "MediaInfo": "vidrestore.media.probe",
    "VideoPlan": "vidrestore.media.encoding",
    "film_extent": "vidrestore.media.sampling",
    "film_reader": "vidrestore.media.program_decoder",
    "film_writer": "vidrestore.media.program_encoder",
    "rgb_frame": "vidrestore.media.sampling",
    "weights_path": "vidrestore.weights.store",
    "write_weights": "vidrestore.weights.store",
}

__all__ = [
    "PRECISION_HELP",
    "Assessor",
    "Bare",
    "Blender",
    "Coding",
    "Context",
    "Damage",
    "Degrader",
    "Detector",
    "Embedder",
    "FaceBatch",
    "Faces",
    "Film",
    "Frame",
    "InputMediaError",
    "Latent",
    "Layout",
    "MediaInfo",
    "Precision",
    "ResourceError",
    "Restorer",
    "RunError",
    "Scene",
    "Smoother",
    "Stretch",
    "Tracker",
    "UsageError",
    "VideoPlan",
    "VidrestoreError",
    "Wear",
    "did_you_mean",
    "dtype_of",
    "film_extent",
    "film_reader",
    "film_writer",
    "rgb_frame",
    "weights_path",
    "write_weights",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"vidrestore.api has no name '{name}'")
