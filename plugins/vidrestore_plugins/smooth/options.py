"""What all smoothers' options share: which latents they work on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

OUTER = ("crop", "output")  # the engine's own latents, around the restorer


class SmoothOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    latents: str | None = Field(
        None, pattern=r"^\w+(\+\w+)*$", description="names joined by +; unless given, all that the restorer yields"
    )

    def want(self, latent: str) -> bool:
        return latent not in OUTER if self.latents is None else latent in self.latents.split("+")
