"""smooth=none: every latent as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

    from vidrestore.api import Stretch


class NoneOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoSmoother:
    Options: ClassVar[type[BaseModel]] = NoneOptions
    lookahead = 0

    def __init__(self, options: NoneOptions) -> None: ...

    def wants(self, latent: str) -> bool:
        return False

    def smooth(self, stretch: Stretch, state: Any) -> tuple[Tensor, Any]:
        return stretch.x[:, : stretch.n_now], None
