"""LPIPS and DISTS, where the networks they look through are on this machine. Nothing is fetched here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Distance = Callable[[Tensor, Tensor], Tensor]  # f32 [n, 3, s, s] twice, in 0..1 -> f32 [n], 0 = the same

# measure -> torchvision's model whose ImageNet weights it looks through, and their size
BACKBONES: Final = {"lpips": ("alexnet", "233 MB"), "dists": ("vgg16", "528 MB")}


def distances() -> tuple[dict[str, Distance], list[str]]:
    """The measures that can be taken here, by name, and a line for each that cannot."""
    found: dict[str, Distance] = {}
    missing: list[str] = []
    for name, (model, size) in BACKBONES.items():
        path = _weights(model)
        if path.is_file():
            found[name] = _MAKE[name]()
        else:
            get = f"python -c \"import torchvision; torchvision.models.{model}(weights='DEFAULT')\""
            missing.append(f"{name.upper()} is left out: {path} is not there; {get} fetches it ({size})")
    return found, missing


def _weights(model: str) -> Path:
    """Where torchvision keeps a model's weights."""
    from torchvision.models import get_model_weights

    url: str = get_model_weights(model).DEFAULT.url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]


def _lpips() -> Distance:
    """LPIPS v0.1 through AlexNet.

    R. Zhang et al.: "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018.
    """
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    net = LearnedPerceptualImagePatchSimilarity("alex", normalize=True).net

    def distance(a: Tensor, b: Tensor) -> Tensor:
        out: Tensor = net(a, b, normalize=True)
        return out.flatten()

    return distance


def _dists() -> Distance:
    """DISTS through VGG-16, for faces of 256 px, as its authors shrink pictures.

    K. Ding et al.: "Image Quality Assessment: Unifying Structure and Texture Similarity", IEEE TPAMI 44(5), 2022.
    """
    import torch.nn.functional as F
    from torchmetrics.functional.image.dists import DISTSNetwork

    net = DISTSNetwork()

    def distance(a: Tensor, b: Tensor) -> Tensor:
        if a.shape[-1] > 256:
            a, b = (F.interpolate(x, (256, 256), mode="bilinear", antialias=True) for x in (a, b))
        out: Tensor = net(a, b)
        return out.reshape(len(a))

    return distance


_MAKE: Final = {"lpips": _lpips, "dists": _dists}
