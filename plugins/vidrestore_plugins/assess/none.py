"""assess=none: looks at nothing and calls every face damaged, so that all of them are restored in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from vidrestore.api import Damage

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class NoneOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoAssessor:
    Options: ClassVar[type[BaseModel]] = NoneOptions

    def __init__(self, options: NoneOptions) -> None: ...

    def open(self, device: torch.device) -> None: ...

    def assess(self, crops: Tensor) -> Damage:
        """The worst there is, for each of [n, 3, S, S]."""
        import numpy as np

        n = len(crops)
        return Damage(np.full(n, 256, np.float32), np.ones(n, np.float32), np.ones(n, np.float32))
