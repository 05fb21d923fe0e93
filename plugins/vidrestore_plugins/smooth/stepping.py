"""What smoothers that go from frame to frame share: they differ in how they begin and in a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor

    from vidrestore.api import Stretch


class Stepping:
    """No lag: a forward and a backward run, averaged. What the evidence says has changed is followed at once."""

    Options: ClassVar[type[BaseModel]]

    def __init__(self, options: Any) -> None:
        self.options, self.lookahead = options, options.lookahead

    def wants(self, latent: str) -> bool:
        return bool(self.options.want(latent))

    def smooth(self, stretch: Stretch, state: Any) -> tuple[Tensor, Any]:
        from vidrestore_plugins.smooth.passes import both_ways

        return both_ways(self, stretch, self.lookahead, state)

    def begin(self, x: Tensor) -> dict[str, Tensor]:
        """As `passes.Recursion.begin`."""
        raise NotImplementedError

    def step(self, memory: dict[str, Tensor], x: Tensor, dt: Tensor, evidence: Tensor) -> dict[str, Tensor]:
        """As `passes.Recursion.step`."""
        raise NotImplementedError
