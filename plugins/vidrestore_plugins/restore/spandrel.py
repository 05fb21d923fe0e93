"""restore=spandrel: a network from a file that somebody already has (GFPGAN, RestoreFormer, SCUNet, ESRGAN and some
thirty other kinds), through spandrel, which tells them by their weights' names.

Networks made for aligned faces see crops of their own side; those that enlarge see crops so much smaller, and what
they give has the side of the crop. Geometry and smoothing are those of every restorer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from vidrestore.api import PRECISION_HELP, Precision, ResourceError, dtype_of

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch
    from torch import Tensor

    from vidrestore.api import Context, FaceBatch, Latent

_FACES: Final = 512  # px a side of the crops that published face networks were trained on
_GET = "pip install 'vidrestore[spandrel]'"


class SpandrelOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str = Field("", description="file of the network: .pth, .safetensors, .ckpt")
    size: int = Field(_FACES, ge=64, le=2048, multiple_of=32, description="side of the crop in px")
    precision: Precision = Field("fp32", description=PRECISION_HELP)


class SpandrelRestorer:
    Options: ClassVar[type[BaseModel]] = SpandrelOptions
    latents: tuple[str, ...] = ()

    def __init__(self, options: SpandrelOptions) -> None:
        self.options, self.size = options, options.size
        self._model: Any = None

    def open(self, device: torch.device) -> None:
        """Load the file. Raises ResourceError where spandrel or the file is missing, or the network is none for
        colour pictures."""
        if not self.options.weights:
            raise ResourceError("restore=spandrel", "no weights named", "add weights=FILE, e.g. weights=GFPGANv1.4.pth")
        try:
            from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError
        except ImportError as error:
            raise ResourceError("restore=spandrel", "spandrel is not installed", _GET) from error
        from pickle import UnpicklingError

        from safetensors import SafetensorError

        path = Path(self.options.weights)
        if not path.is_file():
            raise ResourceError("restore=spandrel", f"no such file: {path}")
        try:
            model = ModelLoader(device).load_from_file(path)
        except (UnsupportedModelError, SafetensorError, UnpicklingError, OSError, RuntimeError, ValueError) as error:
            said = (str(error) or type(error).__name__).splitlines()[0]
            raise ResourceError(
                "restore=spandrel", f"{path.name}: {said}", "give a file that spandrel knows"
            ) from error
        if not isinstance(model, ImageModelDescriptor) or (model.input_channels, model.output_channels) != (3, 3):
            raise ResourceError(
                "restore=spandrel", f"{path.name} is no network from colour pictures to colour pictures"
            )
        kind = dtype_of(self.options.precision, device)
        self._model = model.eval().to(device=device, dtype=kind)

    def restore(self, faces: FaceBatch, ctx: Context) -> Generator[Latent, Tensor, Tensor]:
        """One pass; nothing is yielded on the way."""
        import torch.nn.functional as F

        if self._model is None:
            raise ValueError("SpandrelRestorer.restore was called before open")
        x, model = faces.crops, self._model
        if model.scale > 1:
            x = F.interpolate(x, (self.size // model.scale,) * 2, mode="bicubic", antialias=True).clamp(0, 1)
        y: Tensor = model(x.to(model.dtype)).float()
        if y.shape[-1] != self.size:
            y = F.interpolate(y, (self.size, self.size), mode="bicubic", antialias=True)
        return y.clamp(0, 1)
        yield
