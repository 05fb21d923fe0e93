"""The U-Net and the auto-encoder of latent diffusion against those of diffusers, an independent work, same weights."""

from __future__ import annotations

import re
from fractions import Fraction

import torch
from diffusers.models.autoencoders.vq_model import VQModel
from diffusers.models.unets.unet_2d import UNet2DModel
from nano import drawn, stirred
from torch import Tensor

from vidrestore_plugins.restore.ldbfr.f4 import VQF4
from vidrestore_plugins.restore.ldbfr.sizes import UNetSize, VQF4Size
from vidrestore_plugins.restore.ldbfr.unet import UNet

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
QKV = ("to_q", "to_k", "to_v")


def test_unet() -> None:
    size = UNetSize(
        model_channels=128,  # wide enough for 32 groups everywhere
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention_ds=(2,),
        num_head_channels=32,
        inject_ds=(),
    )
    ours = stirred(UNet(size, 16, Fraction(2)))
    theirs = UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(128, 256), layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=32, norm_num_groups=32, norm_eps=1e-5, flip_sin_to_cos=True, freq_shift=0,
    ).eval()  # fmt: skip
    state = ours.state_dict()
    theirs.load_state_dict({key: of_unet(state, key, t) for key, t in theirs.state_dict().items()})
    z, t = drawn(2, 3, 8, 8), torch.tensor([3, 700])
    with torch.inference_mode():
        torch.testing.assert_close(ours(z, t, []), theirs(z, t).sample, atol=1e-3, rtol=1e-3)


def of_unet(state: dict[str, Tensor], key: str, like: Tensor) -> Tensor:
    """Our tensor for a key of diffusers' U-Net of two levels, one block each."""
    path, leaf = key.rsplit(".", 1)
    blocks = {
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
        "down_blocks.0.resnets.0": "input_blocks.1.0", "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
        "down_blocks.1.resnets.0": "input_blocks.3.0", "down_blocks.1.attentions.0": "input_blocks.3.1",
        "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
        "up_blocks.0.resnets.0": "output_blocks.0.0", "up_blocks.0.attentions.0": "output_blocks.0.1",
        "up_blocks.0.resnets.1": "output_blocks.1.0", "up_blocks.0.attentions.1": "output_blocks.1.1",
        "up_blocks.0.upsamplers.0.conv": "output_blocks.1.2.conv",
        "up_blocks.1.resnets.0": "output_blocks.2.0", "up_blocks.1.resnets.1": "output_blocks.3.0",
    }  # fmt: skip
    if path in blocks:
        return state[f"{blocks[path]}.{leaf}"]
    block = next(name for name in blocks if path.startswith(f"{name}."))
    part = path.removeprefix(f"{block}.")
    if part in QKV:
        packed = (
            state[f"{blocks[block]}.qkv.{leaf}"].flatten(1) if leaf == "weight" else state[f"{blocks[block]}.qkv.bias"]
        )
        return packed.unflatten(0, (-1, 3, 32))[:, QKV.index(part)].reshape(like.shape)
    names = RESNET | {"group_norm": "norm", "to_out.0": "proj_out"}
    return state[f"{blocks[block]}.{names[part]}.{leaf}"].reshape(like.shape)


def test_auto_encoder_of_latents() -> None:
    ours = stirred(VQF4(VQF4Size(ch=32, ch_mult=(1, 1, 2), num_res_blocks=1, n_embed=64)))
    theirs = VQModel(
        block_out_channels=(32, 32, 64), layers_per_block=1, latent_channels=3, num_vq_embeddings=64, vq_embed_dim=3,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    ).eval()  # fmt: skip
    state = ours.state_dict()
    theirs.load_state_dict({key: state[of_vq(key)].reshape(t.shape) for key, t in theirs.state_dict().items()})
    y = drawn(2, 3, 32, 32)
    with torch.inference_mode():
        z = ours.encode(y)
        torch.testing.assert_close(z, theirs.encode(y).latents, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ours.decode(z), theirs.decode(z).sample, atol=1e-3, rtol=1e-3)


def of_vq(key: str) -> str:
    """Our key for one of diffusers' auto-encoder of three levels."""
    key = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{2 - int(found[1])}", key)
    for pattern, name in (
        (r"down_blocks\.", "down."),
        (r"mid_block\.resnets\.0", "mid.block_1"),
        (r"mid_block\.resnets\.1", "mid.block_2"),
        (r"mid_block\.attentions\.0", "mid.attn_1"),
        (r"resnets\.", "block."),
        (r"(down|up)samplers\.0", r"\1sample"),
        (r"conv_shortcut", "nin_shortcut"),
        (r"conv_norm_out", "norm_out"),
        (r"group_norm", "norm"),
        (r"to_out\.0", "proj_out"),
        (r"to_([qkv])", r"\1"),
    ):
        key = re.sub(pattern, name, key)
    return key
