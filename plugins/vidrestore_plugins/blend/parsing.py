"""blend=parsing: the face's own outline, skin and features without hair and background, as facexlib's ParseNet sees it.

The network looks at the restored crop; the mask is its probability of "face", blurred, not its hard decision: a border
that wavers from frame to frame moves the mask a little, never by a jump. Its published weights are fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from vidrestore.api import ResourceError, weights_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vidrestore.api import FaceBatch

_SIDE: Final = 512  # px of the pictures it was trained on
_CLASSES: Final = 19
_FACE: Final = tuple(range(1, 13))  # of CelebAMask-HQ: skin, nose, glasses, eyes, brows, ears, mouth, lips; 13 is hair
_BORDER: Final = 16  # px of 512 over which the blend ends at the crop's own border


class ParsingOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    radius: float = Field(24, ge=1, le=128, description="width of the soft border in px of a crop of 512")
    color: float = Field(1.0, ge=0, le=1, description="how far the source's low frequencies are kept; 1 = entirely")


class Parsing:
    Options: ClassVar[type[BaseModel]] = ParsingOptions
    weights = ("parsenet",)

    def __init__(self, options: ParsingOptions) -> None:
        self.options = options
        self._net: Any = None

    def blend(self, faces: FaceBatch, restored: Tensor) -> tuple[Tensor, Tensor]:
        """restored f32 [n, 3, S, S] -> (colour-matched, alpha [n, 1, S, S]). Raises ResourceError where the weights
        cannot be had."""
        import torch
        import torch.nn.functional as F

        from vidrestore_plugins.blend.colour import coloured
        from vidrestore_plugins.blend.shapes import border

        size = restored.shape[-1]
        net = self._opened(restored.device)
        seen = F.interpolate(restored, (_SIDE, _SIDE), mode="bilinear", antialias=True)
        shares = [torch.zeros_like(restored[:0, :1])]
        with torch.no_grad():
            for face in seen:  # one by one: none depends on its neighbours
                face_share = net(face[None] * 2 - 1)[0].softmax(1)[:, _FACE].sum(1, keepdim=True)
                shares.append(F.interpolate(face_share, (size, size), mode="bilinear", antialias=True))
        mask = _blurred(torch.cat(shares), self.options.radius * size / _SIDE)
        alpha = mask.clamp(0, 1) * border(size, _BORDER).to(restored)
        if self.options.color:
            restored = coloured(restored, faces.crops, self.options.color)
        return restored, alpha

    def _opened(self, device: torch.device) -> Any:
        if self._net is None:
            self._net = _loaded().to(device)
        return self._net


def _loaded() -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        from facexlib.parsing.parsenet import ParseNet
    except Exception as error:  # facexlib imports all of itself at once: any of its parts may be what is broken
        reason = f"facexlib cannot be imported: {error}"
        raise ResourceError("blend=parsing", reason, "pip install --force-reinstall facexlib") from error
    path = weights_path("parsenet")
    net = ParseNet(in_size=_SIDE, out_size=_SIDE, parsing_ch=_CLASSES)
    try:
        net.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        what = f"{path.name} does not hold its weights: {str(error).splitlines()[0]}"
        raise ResourceError("blend=parsing", what, "vidrestore weights fetch parsenet") from error
    return net.eval()


def _blurred(mask: Tensor, radius: float) -> Tensor:
    """Gaussian whose +-2 sigma span the radius."""
    from kornia.filters import gaussian_blur2d

    sigma = max(radius / 4, 0.3)
    width = 2 * min(int(2 * sigma) + 1, mask.shape[-1] // 2 - 1) + 1
    blurred: Tensor = gaussian_blur2d(mask, (width, width), (sigma, sigma), border_type="reflect")
    return blurred
