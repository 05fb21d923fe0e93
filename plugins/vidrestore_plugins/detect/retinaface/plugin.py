"""detect=retinaface: faces and their five landmarks in one pass of a small network."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from vidrestore.api import Faces, weights_path

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

WEIGHTS = {"mobile0.25": "retinaface_mobile025", "resnet50": "retinaface_resnet50"}


class RetinaFaceOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(
        0.86, ge=0.05, le=0.99, description="score from which a face counts; lower finds more, wrong ones too"
    )
    every: int = Field(
        2, ge=1, le=16, description="frames from one detection to the next; tracks are interpolated between"
    )
    side: int = Field(
        640, ge=64, le=4096, description="longest side in px of the pictures searched; larger frames are shrunk to it"
    )
    nms: float = Field(0.4, ge=0.05, le=0.95, description="overlap (IoU) from which two boxes are the same face")
    model: Literal["mobile0.25", "resnet50"] = Field(
        "mobile0.25",
        description="bundled network, or facexlib's larger one: vidrestore weights fetch retinaface_resnet50",
    )


class RetinaFaceDetector:
    """RetinaFace with one addition: the priors that agree on a face vote on its box and landmarks, weighted by
    score, which is steadier from frame to frame than the best prior's word alone."""

    Options: ClassVar[type[BaseModel]] = RetinaFaceOptions

    def __init__(self, options: RetinaFaceOptions) -> None:
        self.options = options
        self.side, self.every = options.side, options.every
        self.weights = (WEIGHTS[options.model],)
        self._net: nn.Module | None = None
        self._grid: tuple[tuple[int, int], Tensor] | None = None  # picture size and its priors: clips keep one size

    def open(self, device: torch.device) -> None:
        """Load the weights. Raises ResourceError where they or facexlib cannot be had."""
        import torch

        from vidrestore_plugins.detect.retinaface.network import fused, load

        net = load(self.options.model, weights_path(WEIGHTS[self.options.model]))
        self._net = fused(net).to(memory_format=torch.channels_last).to(device)
        self._grid = None

    def detect(self, images: Tensor) -> list[Faces]:
        """uint8 RGB ``[b, h, w, 3]`` -> b Faces, best first. A picture's faces do not depend on the others."""
        import torch

        from vidrestore_plugins.detect.retinaface.search import outputs, search

        if self._net is None:
            raise ValueError("RetinaFaceDetector.detect was called before open")
        if images.numel() == 0:
            return [Faces.empty() for _ in range(len(images))]
        with torch.inference_mode():
            found = outputs(self._net, images)
            faces = search(found, self._priors(images), self.options.threshold, self.options.nms)
            table = faces.cpu().numpy()  # one copy to the host
        return [_faces(table[table[:, 0] == i]) for i in range(len(images))]

    def _priors(self, images: Tensor) -> Tensor:
        from vidrestore_plugins.detect.retinaface.search import grid

        size = (images.shape[1], images.shape[2])
        if self._grid is None or self._grid[0] != size:
            self._grid = (size, grid(*size).to(images.device))
        return self._grid[1]


def _faces(rows: NDArray[np.float32]) -> Faces:
    """Rows of `search` -> a record that owns its memory."""
    import numpy as np

    n = len(rows)
    return Faces(rows[:, 2:6].copy(), rows[:, 6:].reshape(n, 5, 2).copy(), rows[:, 1].copy(), np.full(n, -1, np.int64))
