"""blend=parsing: the face's own outline, skin and features without hair and background, as facexlib's ParseNet sees it,
or a small parser that somebody has trained.

The network looks at the restored crop; the mask is its probability of "face", blurred, not its hard decision: a border
that wavers from frame to frame moves the mask a little, never by a jump. ParseNet's published weights are fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from vidrestore.api import ResourceError, weights_path

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from vidrestore.api import FaceBatch

_PUBLISHED: Final = "parsenet"
_SIDE: Final = 512  # px of the pictures it was trained on
_CLASSES: Final = 19
FACE: Final = tuple(range(1, 13))  # of CelebAMask-HQ: skin, nose, glasses, eyes, brows, ears, mouth, lips; 13 is hair
_BORDER: Final = 16  # px of 512 over which the blend ends at the crop's own border


class ParsingOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    radius: float = Field(24, ge=1, le=128, description="width of the soft border in px of a crop of 512")
    color: float = Field(1.0, ge=0, le=1, description="how far the source's low frequencies are kept; 1 = entirely")
    weights: str = Field(_PUBLISHED, description="parsenet, or a file that `vidrestore train parser` has made")


class Parsing:
    Options: ClassVar[type[BaseModel]] = ParsingOptions

    def __init__(self, options: ParsingOptions) -> None:
        self.options = options
        self.weights = (options.weights,)
        self._seen: Callable[[Tensor], Tensor] | None = None

    def blend(self, faces: FaceBatch, restored: Tensor) -> tuple[Tensor, Tensor]:
        """restored f32 [n, 3, S, S] -> (colour-matched, alpha [n, 1, S, S]). Raises ResourceError where the weights
        cannot be had."""
        import torch
        import torch.nn.functional as F

        from vidrestore_plugins.blend.colour import coloured
        from vidrestore_plugins.blend.shapes import border

        size = restored.shape[-1]
        if self._seen is None:
            self._seen = _parser(self.options.weights, restored.device)
        with torch.no_grad():
            seen = [self._seen(face[None]) for face in restored]  # one by one: none depends on its neighbours
        shares = [F.interpolate(share, (size, size), mode="bilinear", antialias=True) for share in seen]
        mask = _blurred(torch.cat([restored[:0, :1], *shares]), self.options.radius * size / _SIDE)
        alpha = mask.clamp(0, 1) * border(size, _BORDER).to(restored)
        if self.options.color:
            restored = coloured(restored, faces.crops, self.options.color)
        return restored, alpha


def _parser(weights: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Says how surely each px of a crop f32 [1, 3, s, s] in 0..1 is face: [1, 1, side, side] in 0..1."""
    import torch.nn.functional as F

    if weights == _PUBLISHED:
        published = _parsenet().to(device)

        def classes(crop: Tensor) -> Tensor:
            x = F.interpolate(crop, (_SIDE, _SIDE), mode="bilinear", antialias=True)
            return published(2 * x - 1)[0].softmax(1)[:, FACE].sum(1, keepdim=True)  # type: ignore[no-any-return]

        return classes

    from vidrestore_plugins.blend.parser.network import SIDE, load

    own = load(weights_path(weights)).to(device)

    def logit(crop: Tensor) -> Tensor:
        return own(F.interpolate(crop, (SIDE, SIDE), mode="bilinear", antialias=True)).sigmoid()  # type: ignore[no-any-return]

    return logit


def _parsenet() -> Any:
    """Raises ResourceError where facexlib or its weights cannot be had."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        from facexlib.parsing.parsenet import ParseNet
    except Exception as error:  # facexlib imports all of itself at once: any of its parts may be what is broken
        reason = f"facexlib cannot be imported: {error}"
        raise ResourceError("blend=parsing", reason, "pip install --force-reinstall facexlib") from error
    path = weights_path(_PUBLISHED)
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
