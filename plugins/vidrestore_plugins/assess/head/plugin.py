"""assess=head: a small network that measures resolution, noise and coding error of a face."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from vidrestore.api import Damage, weights_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vidrestore_plugins.assess.head.network import Head

WEIGHTS = "assess_head"


class HeadOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HeadAssessor:
    Options: ClassVar[type[BaseModel]] = HeadOptions
    weights = (WEIGHTS,)

    def __init__(self, options: HeadOptions) -> None:
        self._net: Head | None = None

    def open(self, device: torch.device) -> None:
        """Load the weights. Raises ResourceError where they cannot be had."""
        from safetensors.torch import load_file

        from vidrestore_plugins.assess.head.network import Head

        net = Head()
        net.load_state_dict({name: value.float() for name, value in load_file(weights_path(WEIGHTS)).items()})
        self._net = net.eval().requires_grad_(False).to(device)

    def assess(self, crops: Tensor) -> Damage:
        """f32 [n, 3, S, S] in 0..1 -> n rows."""
        import torch

        from vidrestore_plugins.assess.head.network import decoded, luma_256

        if self._net is None:
            raise ValueError("HeadAssessor.assess was called before open")
        if len(crops) == 0:
            table = torch.ones(0, 3)
        else:
            with torch.inference_mode():
                table = decoded(self._net(luma_256(crops))).cpu()
        resolution, noise, coding = table.T.contiguous().numpy()
        return Damage(resolution, noise, coding)
