"""Low-rank updates of the prior's attention, merged for use.

E. Hu et al.: "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022; ``W' = W + B A``. Training is peft's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vidrestore.api import ResourceError
from vidrestore_plugins.restore.flipnet.prior import CROSS, PROJECTIONS, SELF, sites

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diffusers import UNet2DConditionModel

Lora = dict[str, Tensor]  # "<matrix>.A" [r, in] and "<matrix>.B" [out, r]


def matrices(unet: UNet2DConditionModel) -> list[str]:
    """Names of the updated matrices: queries, keys, values and outputs of self- and cross-attention, at all sites."""
    return [f"{site}.{kind}.{name}" for site in sites(unet) for kind in (SELF, CROSS) for name in PROJECTIONS]


def attach(unet: UNet2DConditionModel, rank: int) -> None:
    """Put fresh trainable updates beside the matrices: A normal, B zero. The rest of the U-Net is frozen by it."""
    from peft import LoraConfig

    unet.add_adapter(
        LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(PROJECTIONS))
    )


def taken(unet: UNet2DConditionModel) -> Lora:
    """The updates that were attached; empty where none are."""
    found: Lora = {}
    for name in matrices(unet):
        layer: Any = unet.get_submodule(name)
        if hasattr(layer, "lora_A"):
            found[f"{name}.A"] = layer.lora_A["default"].weight.detach()
            found[f"{name}.B"] = layer.lora_B["default"].weight.detach()
    return found


@torch.no_grad()
def merge(unet: UNet2DConditionModel, lora: Mapping[str, Tensor], sign: int = 1) -> None:
    """``W <- W + B A``; with ``sign`` -1 the way back.

    Raises ResourceError where the updates are not those of this U-Net.
    """
    remedy = "use the prior they were trained on"
    wanted = {f"{name}.{half}" for name in matrices(unet) for half in "AB"}
    if wanted != set(lora):
        raise ResourceError("low-rank updates", f"do not fit the prior: {min(wanted ^ set(lora))}", remedy)
    for name in matrices(unet):
        layer = unet.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        a, b = lora[f"{name}.A"].float(), lora[f"{name}.B"].float()
        if (b.shape[0], a.shape[1]) != layer.weight.shape:
            raise ResourceError(
                "low-rank updates", f"do not fit the prior: {name}", "use the prior they were trained on"
            )
        layer.weight += sign * (b @ a).to(layer.weight)


def bare(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """The U-Net's own tensors by their own names, whether or not updates are attached."""
    return {
        name.replace(".base_layer.", "."): value for name, value in unet.state_dict().items() if ".lora_" not in name
    }
