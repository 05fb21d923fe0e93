"""facexlib's RetinaFace networks: built without weights or downloads, fed with uint8 RGB."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vidrestore.api import ResourceError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

MEAN = (104.0, 117.0, 123.0)  # blue, green, red


def build(name: str, device: str = "cpu") -> nn.Module:
    """``mobile0.25`` or ``resnet50`` with random weights (none on device ``meta``), giving box codes ``[b, p, 4]``,
    logits ``[b, p, 2]`` (background, face) and landmark codes ``[b, p, 10]``.

    Raises ResourceError where facexlib cannot be imported.
    """
    try:
        from facexlib.detection.retinaface import RetinaFace
    except Exception as error:  # facexlib imports all of itself at once: any of its parts may be what is broken
        reason = f"facexlib cannot be imported: {error}"
        raise ResourceError("detect=retinaface", reason, "pip install --force-reinstall facexlib") from error
    with torch.device(device), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it asks torchvision for no weights in a way of the past
        net: nn.Module = RetinaFace(network_name=name, phase="train", device=device)
    return net


def load(name: str, path: Path) -> nn.Module:
    """The network of that name with the weights of a safetensors file, f32, on the CPU; nothing is drawn at random.

    Raises ResourceError where the file is not readable as the network's weights.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    net = build(name, "meta")
    try:
        net.load_state_dict(load_file(path), assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = f"{path.name} does not hold the weights of {name}: {str(error).splitlines()[0]}"
        raise ResourceError("detect=retinaface", reason, f"vidrestore weights fetch {path.stem}") from error
    return net


def network_input(images: Tensor) -> Tensor:
    """RGB 0..255 ``[b, h, w, 3]`` -> f32 BGR less the mean ``[b, 3, H, W]``, channels last.

    H and W are the next multiples of 32; what is added at the right and below is the mean colour.
    """
    _, height, width, _ = images.shape
    mean = torch.tensor(MEAN, device=images.device)
    x = images.flip(-1).to(torch.float32) - mean
    x = nn.functional.pad(x, (0, 0, 0, -width % 32, 0, -height % 32))
    return x.permute(0, 3, 1, 2)  # a view of channels-last memory


def halved(x: Tensor) -> Tensor:
    """A `network_input` ``[b, 3, H, W]`` at half the size: means of 2x2, padded anew."""
    small = nn.functional.avg_pool2d(x, 2)
    return nn.functional.pad(small, (0, -small.shape[3] % 32, 0, -small.shape[2] % 32))


def fused(net: nn.Module) -> nn.Module:
    """The network in place, each batch norm folded into the convolution before it; for inference only."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    net.eval()
    for module in net.modules():
        if isinstance(module, nn.Sequential):
            steps: list[Any] = list(module)
            for i in range(len(steps) - 1):
                if isinstance(steps[i], nn.Conv2d) and isinstance(steps[i + 1], nn.BatchNorm2d):
                    module[i] = fuse_conv_bn_eval(steps[i], steps[i + 1])
                    module[i + 1] = nn.Identity()
    return net
