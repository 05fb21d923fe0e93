"""The published checkpoints as tensors of `VSPBFR`: one table of where each network lies, read strictly.

Of each tensor of a published network exactly one comes, of equal shape; any other is refused by name. What a
training keeps beside its networks (optimisers, discriminators, options) is left. Layouts are those of
LonglongaaaGo/VSPBFR and, for the style encoder, of LonglongaaaGo/e4e_trainer.
"""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any, Final

import torch

from vidrestore.api import ResourceError
from vidrestore_plugins.restore.vspbfr.bank import Generator
from vidrestore_plugins.restore.vspbfr.files import HEADER
from vidrestore_plugins.restore.vspbfr.model import VSPBFR
from vidrestore_plugins.restore.vspbfr.sizes import PUBLISHED, Size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

# ours: the file's name without its ending, the entry in it that holds the state, what its keys begin with
LAYOUT: Final = {
    "encoder": ("style_encoder_decoder", "state_dict", "encoder."),
    "bank": ("style_encoder_decoder", "state_dict", "decoder."),
    "diffuser": ("code_diffuser", "att_mapper", ""),
    "restoration": ("restoration_net", "g_ema", ""),
}
PARTS: Final = tuple(dict.fromkeys(part for part, _, _ in LAYOUT.values()))
# with any other, the encoder's codes would mean something else
OPTIONS: Final = {"encoder_type": "Encoder4Editing", "start_from_latent_avg": True}


def convert(parts: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The importer of the published weights: content of the three files -> tensors of `VSPBFR`, header.

    Raises ResourceError, naming file and key, where one is missing, unknown or of another shape.
    """
    return converted(parts, PUBLISHED)


def converted(parts: Mapping[str, Any], size: Size) -> tuple[dict[str, Tensor], dict[str, str]]:
    """As `convert`, of networks of a size. The bank keeps what is read of the generator; all numbers stay f32."""
    for part in PARTS:
        if part not in parts:
            raise refused(part, "no such file among those given", f"have {', '.join(parts) or 'none'}")
    with torch.device("meta"):
        net, generator = VSPBFR(size), Generator(size)
    expected = {name: getattr(net, name) for name in LAYOUT} | {"bank": generator}
    found = {"latent_avg": mean_code(parts, net.latent_avg)}
    for name, (part, entry, prefix) in LAYOUT.items():
        state = states(parts[part], part, entry)
        own = {key.removeprefix(prefix): t for key, t in state.items() if key.startswith(prefix)}
        check(own, expected[name].state_dict(), f"{part}: {entry}", prefix)
        found |= {f"{name}.{key}": own[key] for key in getattr(net, name).state_dict()}
    tensors = {key: t.float() if t.is_floating_point() else t for key, t in found.items()}
    return tensors, {HEADER: size.model_dump_json()}


def states(content: Any, part: str, entry: str) -> dict[str, Tensor]:
    """A state dict inside a file, without the "module." of parallel training.

    Raises ResourceError where there is none, or where a key belongs to no network of the layout.
    """
    state = content.get(entry) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise refused(part, f"no '{entry}' in it")
    tensors = {str(key).removeprefix("module."): value for key, value in state.items()}
    prefixes = tuple(prefix for file, _, prefix in LAYOUT.values() if file == part)
    for key, value in tensors.items():
        if not key.startswith(prefixes):
            raise refused(f"{part}: {entry}", f"unknown tensor '{key}'")
        if not isinstance(value, torch.Tensor):
            raise refused(f"{part}: {entry}", f"'{key}' is no tensor")
    return tensors


def mean_code(parts: Mapping[str, Any], expected: Tensor) -> Tensor:
    """The mean code of faces, [codes, dim]; published for each layer or one for all.

    Raises ResourceError where it is missing, or where the encoder was not trained to start from it.
    """
    part, _, _ = LAYOUT["encoder"]
    content = parts[part] if isinstance(parts[part], dict) else {}
    given = content.get("opts")
    options = vars(given) if isinstance(given, Namespace) else given if isinstance(given, dict) else {}
    for name, needed in OPTIONS.items():
        if options.get(name, needed) != needed:
            raise refused(part, f"trained with {name}={options[name]} instead of {needed}")
    mean = content.get("latent_avg")
    if not isinstance(mean, torch.Tensor):
        raise refused(part, "no tensor 'latent_avg' in it")
    if mean.shape not in (expected.shape, (1, expected.shape[1])):
        raise refused(part, f"'latent_avg' is {list(mean.shape)} instead of {list(expected.shape)}")
    return mean.expand(expected.shape)


def check(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str, prefix: str) -> None:
    """Raises ResourceError on the first key that is missing, of another shape, or unknown."""
    for key, tensor in expected.items():
        if key not in found:
            raise refused(where, f"no tensor '{prefix}{key}'")
        if found[key].shape != tensor.shape:
            is_, needed = list(found[key].shape), list(tensor.shape)
            raise refused(where, f"'{prefix}{key}' is {is_} instead of {needed}")
    for key in found:
        if key not in expected:
            raise refused(where, f"unknown tensor '{prefix}{key}'")


def refused(where: str, what: str, remedy: str = "it is not the published file") -> ResourceError:
    return ResourceError(f"checkpoint {where}", what, remedy)
