"""The numbers that networks count in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISION_HELP: Final = "of the networks; auto: bf16 on a GPU that has it, fp32 elsewhere"


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of a network's weights on a device."""
    import torch

    if precision == "auto":
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if half else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
