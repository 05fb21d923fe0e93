"""Public checkpoints into `LDBFR`: one table of layouts, read strictly.

Of each tensor that the model expects exactly one comes, of equal shape; every other key is known to be superfluous or
refused by name. Layouts are those of CompVis/latent-diffusion and taming-transformers, of wzhouxiff/RestoreFormer
and RestoreFormerPlusPlus, and of YuzhenD/LD-BFR.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import torch

from vidrestore.api import ResourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from vidrestore_plugins.restore.ldbfr.model import LDBFR
    from vidrestore_plugins.restore.ldbfr.schedule import Schedule

Name = Literal["ldm", "vq-f4", "restoreformer", "hq-dictionary", "ld-bfr"]

_MEANS: Final = "model_ema.diffusion_model"


@dataclass(frozen=True)
class Layout:
    """Patterns match a key from its first character on."""

    renames: dict[str, str]  # pattern of theirs -> ours; the first that matches
    dropped: str  # pattern of keys of theirs that nothing here needs
    expected: str  # pattern of ours that must all come
    own: str = "(?!)"  # of these, what no such checkpoint has: left as it is

    def ours(self, key: str) -> str | None:
        for pattern, name in self.renames.items():
            if re.match(pattern, key):
                return re.sub(pattern, name, key, count=1)
        return None


# tensors of LD-BFR's own code that its forward pass never reads
DEAD: Final = r".*(absolute_pos_embed|cross_resize|cross_norm_2|cross_ff)"
TRAINING: Final = (
    r"loss\.|model_ema\.|betas$|.*alphas_cumprod|posterior_|lvlb_weights$|logvar$|cond_stage_model\.|scale_factor$"
)

LAYOUTS: Final[dict[Name, Layout]] = {
    "ldm": Layout(
        renames={r"model\.diffusion_model\.": "unet.", r"first_stage_model\.(?!loss\.)": "ae."},
        dropped=TRAINING + r"|first_stage_model\.loss\.",
        expected=r"(unet|ae)\.",
        own=r"unet\..*\.cross_",
    ),
    "vq-f4": Layout(
        renames={r"(?=(encoder|decoder|quantize|quant_conv|post_quant_conv)\.)": "ae."},
        dropped=r"loss\.|model_ema\.",
        expected=r"ae\.",
    ),
    "restoreformer": Layout(
        renames={r"vqvae\.": "stage1."},
        dropped=r"loss\.",
        expected=r"stage1\.",
    ),
    "hq-dictionary": Layout(
        renames={r"vqvae\.(.*\.attn(?:_1|\.\d+))\.norm1\.": r"stage1.\1.norm.", r"vqvae\.": "stage1."},
        dropped=r"loss\.|vqvae\..*\.attn(_1|\.\d+)\.norm2\.",  # of queries from elsewhere, which it never has
        expected=r"stage1\.",
        own=r"stage1\.mid_Cross\.",
    ),
    "ld-bfr": Layout(
        renames={
            r"model\.diffusion_model\.": "unet.",
            r"first_stage_model_gt\.(?!loss\.)": "ae.",
            r"first_stage_model\.(?!loss\.)": "stage1.",
        },
        dropped=rf"{TRAINING}|first_stage_model(_gt)?\.loss\.|model\.diffusion_model\.{DEAD}",
        expected=r"(unet|ae|stage1)\.",
    ),
}


def load(model: LDBFR, state: Mapping[str, Tensor], name: Name) -> None:
    """Copies a checkpoint's tensors (its ``state_dict``) into the model of the fitting `Size`.

    Tensors of ours that such a checkpoint does not have (injections, dual cross-attention) stay as they are.
    The averaged U-Net is preferred. A latent scale other than 1 is put into the auto-encoder's own weights.

    Raises ResourceError, naming the key, where one is missing, unknown or of another shape, or where the
    checkpoint was trained with another noise schedule.
    """
    layout = LAYOUTS[name]
    expected = {
        key: tensor
        for key, tensor in model.state_dict().items()
        if re.match(layout.expected, key) and not re.match(layout.own, key)
    }
    found = renamed(state, name) | averaged(state, [key for key in expected if key.startswith("unet.")], name)
    check(found, expected, name)
    compare(state, model.schedule, name)
    rescale(found, state.get("scale_factor"))
    model.load_state_dict(found, strict=False)


def renamed(state: Mapping[str, Tensor], name: Name) -> dict[str, Tensor]:
    """The checkpoint's tensors under our names, those that nothing needs left out.

    Raises ResourceError on a key that the layout does not know.
    """
    layout = LAYOUTS[name]
    found = {}
    for key, tensor in state.items():
        if re.match(layout.dropped, key):
            continue
        ours = layout.ours(key)
        if ours is None:
            raise refused(name, f"unknown tensor '{key}'")
        found[ours] = tensor
    return found


def averaged(state: Mapping[str, Tensor], wanted: list[str], name: Name) -> dict[str, Tensor]:
    """The running means over training of the U-Net's tensors ``wanted``; nothing where none were kept.

    Raises ResourceError where some were kept but not all: averaged and last weights do not mix.
    """
    if not any(key.startswith(_MEANS) for key in state):
        return {}
    for key in map(folded, wanted):
        if key not in state:
            raise refused(name, f"no tensor '{key}' beside other running means")
    return {key: state[folded(key)] for key in wanted}


def folded(key: str) -> str:
    """Where the running mean of one of the U-Net's tensors lies: under its name without dots."""
    return _MEANS + key.removeprefix("unet.").replace(".", "")


def check(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: Name) -> None:
    for key, tensor in expected.items():
        if key not in found:
            raise refused(name, f"no tensor for '{key}'")
        if found[key].shape != tensor.shape:
            raise refused(name, f"'{key}' is {list(found[key].shape)} instead of {list(tensor.shape)}")
    for key in found:
        if key not in expected:
            raise refused(name, f"unknown tensor '{key}'")


def compare(state: Mapping[str, Tensor], schedule: Schedule, name: Name) -> None:
    """Raises ResourceError where the checkpoint's noise levels are not ours."""
    for key, ours in (("betas", schedule.betas), ("alphas_cumprod", schedule.abar)):
        theirs = state.get(key)
        if theirs is None:
            continue
        if theirs.shape != ours.shape or not torch.allclose(theirs.float().cpu(), ours, atol=1e-6, rtol=0):
            raise refused(name, f"'{key}' belongs to another noise schedule")


def rescale(found: dict[str, Tensor], scale: Tensor | None) -> None:
    """Latents times ``scale``: the auto-encoder's last step, its codes and what reads them, which takes it back."""
    if scale is None:
        return
    for key in ("ae.quant_conv.weight", "ae.quant_conv.bias", "ae.quantize.embedding.weight"):
        found[key] = found[key] * scale
    found["ae.post_quant_conv.weight"] = found["ae.post_quant_conv.weight"] / scale


def refused(name: Name, what: str) -> ResourceError:
    return ResourceError(f"checkpoint {name}", what, "it is not a checkpoint of this layout and size")
