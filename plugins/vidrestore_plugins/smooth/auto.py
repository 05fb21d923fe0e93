"""smooth=auto: what was measured best for every restorer that there is (bench/steady.py): the output is fused along the
motion, and no latent is touched.

Latents have no such authority. LD-BFR's skips carry the picture past h and g; VSPBFR's diffuser makes nearly the same
code of whatever w it is told (flicker 1.00 of frame by frame once w is filtered); FLIPNET's z0, fused along the motion,
flickers more (1.10 and 1.16).
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from vidrestore_plugins.smooth.fuse import Fuse, FuseOptions


class AutoOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Auto(Fuse):
    Options: ClassVar[type[BaseModel]] = AutoOptions

    def __init__(self, options: AutoOptions) -> None:
        super().__init__(FuseOptions.model_validate({}))
