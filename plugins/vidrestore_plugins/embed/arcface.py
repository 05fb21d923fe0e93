"""embed=arcface: facexlib's ArcFace, which recognises people. Its published weights are fetched.

J. Deng, J. Guo, N. Xue, S. Zafeiriou: "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict

from vidrestore.api import ResourceError, weights_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WEIGHTS: Final = "arcface"
DIM: Final = 512


class ArcFaceOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArcFace:
    Options: ClassVar[type[BaseModel]] = ArcFaceOptions
    weights = (WEIGHTS,)

    def __init__(self, options: ArcFaceOptions) -> None:
        self.options = options
        self._net: Any = None

    def open(self, device: torch.device) -> None:
        """Load the weights. Raises ResourceError where they cannot be had."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            from facexlib.recognition.arcface_arch import Backbone
        except Exception as error:  # facexlib imports all of itself at once: any of its parts may be what is broken
            reason = f"facexlib cannot be imported: {error}"
            raise ResourceError("embed=arcface", reason, "pip install --force-reinstall facexlib") from error
        path = weights_path(WEIGHTS)
        net = Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se")
        try:
            net.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            what = f"{path.name} does not hold its weights: {str(error).splitlines()[0]}"
            raise ResourceError("embed=arcface", what, "vidrestore weights fetch arcface") from error
        self._net = net.eval().requires_grad_(False).to(device)

    def embed(self, crops: Tensor) -> Tensor:
        """f32 [n, 3, S, S] in 0..1 -> f32 [n, 512], each of length 1."""
        import torch

        from vidrestore.train.embedder import on_template

        if self._net is None:
            raise ValueError("ArcFace.embed was called before open")
        if len(crops) == 0:
            return crops.new_zeros(0, DIM)
        with torch.inference_mode():
            vectors: Tensor = self._net(2 * on_template(crops, side=crops.shape[-1]) - 1)
        return vectors
