"""A function of tensors compiled for the device, or as it is where that fails."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch._dynamo.exc import TorchDynamoException

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class Compiled:
    """Compiled at its first call, on a GPU with CUDA graphs; shapes should stay what they are.

    Where compiling fails, for want of a compiler for instance, it says so once and goes on without.
    """

    def __init__(self, plain: Callable[..., Tensor]) -> None:
        self._plain = plain
        self._fast: Callable[..., Tensor] | None = torch.compile(plain, mode="reduce-overhead", dynamic=False)

    def __call__(self, *given: Any) -> Tensor:
        if self._fast is not None:
            try:
                return self._fast(*given).clone()  # the next call writes over what a graph gave
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, TorchDynamoException) as error:
                self._fast = None
                reason = str(error).strip().partition("\n")[0]
                warnings.warn(f"goes on uncompiled, more slowly: {reason}", RuntimeWarning, stacklevel=2)
        return self._plain(*given)
