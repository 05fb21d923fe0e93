"""detect=yunet: YuNet as kornia has it, after Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", MIR 2023.

Small and quick; its published weights are fetched. Names follow kornia's processors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from vidrestore.api import Faces, ResourceError, weights_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MIN_SIZES: Final = [[10, 16, 24], [32, 48], [64, 96], [128, 192, 256]]  # px of the priors, by stride
STEPS: Final = [8, 16, 32, 64]
VARIANCE: Final = [0.1, 0.2]
_MOST: Final = 5000  # candidates a picture that are compared with one another


class YuNetOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(0.6, ge=0.05, le=0.99, description="score from which a face counts")
    every: int = Field(2, ge=1, le=16, description="frames from one detection to the next")
    side: int = Field(640, ge=64, le=4096, description="longest side in px of the pictures searched")
    nms: float = Field(0.3, ge=0.05, le=0.95, description="overlap (IoU) from which two boxes are the same face")


class YuNetDetector:
    Options: ClassVar[type[BaseModel]] = YuNetOptions
    weights = ("yunet",)

    def __init__(self, options: YuNetOptions) -> None:
        self.options = options
        self.side, self.every = options.side, options.every
        self._net: Any = None

    def open(self, device: torch.device) -> None:
        """Load the weights. Raises ResourceError where they cannot be had."""
        from kornia.models.yunet import YuNet
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = weights_path("yunet")
        net = YuNet("test", pretrained=False)
        try:
            net.load_state_dict(load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            what = f"{path.name} does not hold its weights: {str(error).splitlines()[0]}"
            raise ResourceError("detect=yunet", what, "vidrestore weights fetch yunet") from error
        self._net = net.eval().to(device)

    def detect(self, images: Tensor) -> list[Faces]:
        """uint8 RGB ``[b, h, w, 3]`` -> b Faces, best first. A picture's faces do not depend on the others."""
        import torch

        if self._net is None:
            raise ValueError("YuNetDetector.detect was called before open")
        if images.numel() == 0:
            return [Faces.empty() for _ in range(len(images))]
        with torch.inference_mode():
            return [self._found(image) for image in images]

    def _found(self, image: Tensor) -> Faces:
        import numpy as np
        import torch
        from kornia.geometry.bbox import nms
        from kornia.models.yunet.processors import PriorBox, decode

        height, width, _ = image.shape
        # whole strides, so that the grid of priors and the network's maps agree; what is added is black
        high, wide = -(-height // STEPS[-1]) * STEPS[-1], -(-width // STEPS[-1]) * STEPS[-1]
        bgr = image.flip(-1).permute(2, 0, 1)[None].float()
        out = self._net(torch.nn.functional.pad(bgr, (0, wide - width, 0, high - height)))
        priors = PriorBox(MIN_SIZES, STEPS, clip=False, image_size=(high, wide)).to(bgr.device, bgr.dtype)()
        rows = decode(out["loc"][0], priors, VARIANCE) * bgr.new_tensor([wide, high] * 7)
        scores = (out["conf"][0, :, 1] * out["iou"][0, :, 0].clamp(0, 1)).sqrt()
        sure = torch.nonzero(scores > self.options.threshold)[:, 0]
        sure = sure[scores[sure].argsort(descending=True)][:_MOST]
        rows, scores = rows[sure], scores[sure]
        if len(rows):
            kept = nms(rows[:, :4], scores, self.options.nms)
            rows, scores = rows[kept], scores[kept]
        table, found = rows.cpu().numpy(), scores.cpu().numpy()
        return Faces(
            table[:, :4].copy(), table[:, 4:].reshape(-1, 5, 2).copy(), found, np.full(len(table), -1, np.int64)
        )
