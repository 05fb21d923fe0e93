"""VSPBFR's graph as it is published, transcribed without a shortcut: what the speed of ours is measured against.

The whole generator up to 1024 px with its colours, weights made for each sample, convolutions in groups of samples,
filters over zeros and borders that are made, one head after another, the four branches of SMART each for itself.
Written from the equations; tensors are read by name from the state of `VSPBFR` and `Generator`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vidrestore_plugins.restore.vspbfr.diffuser import posterior
from vidrestore_plugins.restore.vspbfr.sizes import EncoderSize, Size, log2

Noise = Callable[[str, int], Tensor]  # a layer's path and its side -> a map [n, 1, side, side]


def resampled(x: Tensor, kernel: Tensor, up: int, down: int, pad: tuple[int, int]) -> Tensor:
    """Zeros between the samples and around them, the two-dimensional filter, every ``down``-th position."""
    n, c, h, w = x.shape
    x = x.reshape(n * c, 1, h, 1, w, 1)
    x = F.pad(x, (0, up - 1, 0, 0, 0, up - 1)).reshape(n * c, 1, h * up, w * up)
    x = F.pad(x, (*pad, *pad))
    x = F.conv2d(x, kernel.flip(0, 1)[None, None])
    return x[:, :, ::down, ::down].reshape(n, c, -(-x.shape[-2] // down), -(-x.shape[-1] // down))


def activated(x: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(x + bias.view(1, -1, *[1] * (x.ndim - 2)), 0.2) * sqrt(2)


class Reference:
    """``state``: tensors of `VSPBFR` by name, but those of ``bank.`` from the whole generator."""

    def __init__(self, size: Size, state: Mapping[str, Tensor]) -> None:
        self.size, self.t = size, state

    def __call__(self, x: Tensor, start: Tensor, z: Tensor, noise: Noise) -> Tensor:
        """Faces [n, 3, S, S] in [-1, 1], start codes, z [n, dim] -> restored faces."""
        side = self.size.encoder.side
        seen = F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
        w_hat = self.encoder(seen) + self.t["latent_avg"]
        w = self.diffused(start, w_hat)
        features, _ = self.generator(w, noise)
        return self.restoration(x, w, z, features, noise)

    # -- encoder -------------------------------------------------------------------------------------------

    def encoder(self, x: Tensor) -> Tensor:
        size = self.size.encoder
        assert isinstance(size, EncoderSize)
        x = self.prelu(
            "encoder.input_layer.2", self.norm("encoder.input_layer.1", self.conv("encoder.input_layer.0", x))
        )
        taps, number = [], 0
        for count in size.units:
            for i in range(count):
                x = self.unit(f"encoder.body.{number}", x, 1 if i else 2)
                number += 1
            taps.append(x)
        c1, c2, c3 = taps[1:]
        p2 = self.widened(c3, c2) + self.conv("encoder.latlayer1", c2, pad=0)
        p1 = self.widened(p2, c1) + self.conv("encoder.latlayer2", c1, pad=0)
        codes: list[Tensor] = []
        for i in range(self.size.codes):
            h = c3 if i < size.coarse else p2 if i < size.coarse + size.middle else p1
            for k in range(log2(h.shape[-1])):
                h = F.leaky_relu(self.conv(f"encoder.styles.{i}.convs.{2 * k}", h, stride=2), 0.01)
            h = self.linear(f"encoder.styles.{i}.linear", h.flatten(1))
            codes.append(codes[0] + h if codes else h)
        return torch.stack(codes, 1)

    def unit(self, path: str, x: Tensor, stride: int) -> Tensor:
        shortcut = F.max_pool2d(x, 1, stride)
        if f"{path}.shortcut_layer.0.weight" in self.t:
            shortcut = self.norm(f"{path}.shortcut_layer.1", self.conv(f"{path}.shortcut_layer.0", x, stride, 0))
        h = self.conv(f"{path}.res_layer.1", self.norm(f"{path}.res_layer.0", x))
        h = self.conv(f"{path}.res_layer.3", self.prelu(f"{path}.res_layer.2", h), stride)
        h = self.norm(f"{path}.res_layer.4", h)
        gate = F.adaptive_avg_pool2d(h, 1)
        gate = F.relu(self.conv(f"{path}.res_layer.5.fc1", gate, pad=0))
        return h * torch.sigmoid(self.conv(f"{path}.res_layer.5.fc2", gate, pad=0)) + shortcut

    def widened(self, x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)

    def conv(self, path: str, x: Tensor, stride: int = 1, pad: int = 1) -> Tensor:
        return F.conv2d(x, self.t[f"{path}.weight"], self.t.get(f"{path}.bias"), stride, pad)

    def norm(self, path: str, x: Tensor) -> Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.t[f"{path}.{name}"] for name in names))

    def prelu(self, path: str, x: Tensor) -> Tensor:
        return F.prelu(x, self.t[f"{path}.weight"])

    def linear(self, path: str, x: Tensor, lr: float = 1.0) -> Tensor:
        weight = self.t[f"{path}.weight"]
        return F.linear(x, weight * (lr / sqrt(weight.shape[1])), self.t[f"{path}.bias"] * lr)

    # -- diffusion -----------------------------------------------------------------------------------------

    def diffused(self, start: Tensor, condition: Tensor) -> Tensor:
        w, steps = start, self.size.diffuser.steps
        a, b = (c.to(start) for c in posterior(self.size.diffuser))
        for t in reversed(range(steps)):
            x0, e = w, torch.cat([condition, torch.full_like(condition[..., :1], t / steps)], 2)
            for block in range(self.size.diffuser.blocks):
                x0 = self.block(f"diffuser.att_mapper.{block}", x0, e)
            torch.randn_like(w)  # drawn and left
            w = a[t] * x0 + b[t] * w
        return w

    def block(self, path: str, x: Tensor, e: Tensor) -> Tensor:
        def by(name: str, of: Tensor) -> Tensor:
            return F.linear(of, self.t[f"{path}.{name}.weight"])

        x = x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)
        attention = by("k_matrix", x) @ by("q_matrix", e).transpose(1, 2) / sqrt(x.shape[1])
        h = attention.softmax(-1) @ by("v_matrix", x)
        q, k, v = (by(f"attention_layer.{name}_matrix", of) for name, of in (("q", x), ("k", e), ("v", x)))
        g = v @ (k.transpose(1, 2) @ q / sqrt(x.shape[2])).softmax(1)
        h = F.layer_norm(h + F.layer_norm(g, x.shape[2:]), x.shape[2:])
        gamma, beta = (self.head(f"{path}.{name}", e) for name in ("gamma_", "beta_"))
        return h * (1 + torch.sigmoid(gamma)) + F.leaky_relu(beta, 0.2) * sqrt(2)

    def head(self, path: str, e: Tensor) -> Tensor:
        t = self.t
        h = F.linear(e, t[f"{path}.0.weight"], t[f"{path}.0.bias"])
        h = F.layer_norm(h, h.shape[-1:], t[f"{path}.1.weight"], t[f"{path}.1.bias"])
        return F.linear(F.leaky_relu(h, 0.2) * sqrt(2), t[f"{path}.3.weight"], t[f"{path}.3.bias"])

    # -- layers with a style -------------------------------------------------------------------------------

    def modulated(self, x: Tensor, weight: Tensor, s: Tensor, demod: bool = True, **how: Any) -> Tensor:
        """Weights for each sample, samples as groups; ``how``: up, down (the filter that goes with it) or dilation."""
        n, c_in, h, w = x.shape
        c_out, k = weight.shape[1], weight.shape[-1]
        weights = weight * (1 / sqrt(c_in * k * k)) * s.view(n, 1, c_in, 1, 1)
        if demod:
            weights = weights * torch.rsqrt(weights.square().sum((2, 3, 4)) + 1e-8).view(n, c_out, 1, 1, 1)
        if "up" in how:
            grouped = weights.transpose(1, 2).reshape(n * c_in, c_out, k, k)
            y = F.conv_transpose2d(x.reshape(1, n * c_in, h, w), grouped, stride=2, groups=n)
            return resampled(y.view(n, c_out, *y.shape[-2:]), how["up"], 1, 1, (1, 1))
        grouped = weights.view(n * c_out, c_in, k, k)
        if "down" in how:
            x = resampled(x, how["down"], 1, 1, (2, 2))
            y = F.conv2d(x.reshape(1, n * c_in, *x.shape[-2:]), grouped, stride=2, groups=n)
        else:
            dilation = how.get("dilation", 1)
            pad = k // 2 * dilation
            y = F.conv2d(x.reshape(1, n * c_in, h, w), grouped, padding=pad, dilation=dilation, groups=n)
        return y.view(n, c_out, *y.shape[-2:])

    def styled(self, path: str, x: Tensor, style: Tensor, noise: Noise, step: str = "") -> Tensor:
        s = self.linear(f"{path}.conv.modulation", style)
        how = {step: self.t[f"{path}.conv.blur.kernel"]} if step else {}
        return self.finished(path, self.modulated(x, self.t[f"{path}.conv.weight"], s, **how), noise)

    def smart(self, path: str, x: Tensor, style: Tensor, noise: Noise) -> Tensor:
        s = self.linear(f"{path}.modulation", style)
        branches = [
            self.modulated(x, self.t[f"{path}.ModulatedConv2ds.{j}.weight"], s, dilation=2**j) for j in range(4)
        ]
        return self.finished(path, self.fused(f"{path}.fusion", torch.cat(branches, 1)), noise)

    def finished(self, path: str, x: Tensor, noise: Noise) -> Tensor:
        return activated(x + self.t[f"{path}.noise.weight"] * noise(path, x.shape[-1]), self.t[f"{path}.activate.bias"])

    def group(self, path: str, x: Tensor) -> Tensor:
        branches = [self.equal(f"{path}.dilated_convs.{j}.weight", x, 2**j) for j in range(4)]
        return activated(self.fused(f"{path}.fusion", torch.cat(branches, 1)), self.t[f"{path}.activate.bias"])

    def fused(self, path: str, x: Tensor) -> Tensor:
        return activated(self.equal(f"{path}.0.weight", x), self.t[f"{path}.1.bias"])

    def equal(self, name: str, x: Tensor, dilation: int = 1) -> Tensor:
        weight = self.t[name]
        pad = weight.shape[-1] // 2 * dilation
        return F.conv2d(x, weight * (1 / sqrt(weight[0].numel())), padding=pad, dilation=dilation)

    def rgb(self, path: str, x: Tensor, style: Tensor, before: Tensor | None) -> Tensor:
        s = self.linear(f"{path}.conv.modulation", style)
        y = self.modulated(x, self.t[f"{path}.conv.weight"], s, demod=False) + self.t[f"{path}.bias"]
        return y if before is None else y + resampled(before, self.t[f"{path}.upsample.kernel"], 2, 1, (2, 1))

    # -- generator, restoration ----------------------------------------------------------------------------

    def generator(self, w: Tensor, noise: Noise) -> tuple[dict[int, Tensor], Tensor]:
        start = self.t["bank.input.input"].repeat(len(w), 1, 1, 1)
        h, features = self.styled("bank.conv1", start, w[:, 0], noise), {}
        rgb = self.rgb("bank.to_rgb1", h, w[:, 1], None)
        for k in range(log2(self.size.bank_side) - 2):
            h = self.styled(f"bank.convs.{2 * k}", h, w[:, 2 * k + 1], noise, "up")
            features[h.shape[-1]] = h
            h = self.styled(f"bank.convs.{2 * k + 1}", h, w[:, 2 * k + 2], noise)
            rgb = self.rgb(f"bank.to_rgbs.{k}", h, w[:, 2 * k + 3], rgb)
        return features, rgb

    def restoration(self, x: Tensor, w: Tensor, z: Tensor, features: Mapping[int, Tensor], noise: Noise) -> Tensor:
        last, name = self.size.used - 1, "restoration"
        zh = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for i in range(self.size.mapping_layers):
            path = f"{name}.style.{i + 1}"
            weight = self.t[f"{path}.weight"]
            zh = activated(F.linear(zh, weight * (0.01 / sqrt(weight.shape[1]))), self.t[f"{path}.bias"] * 0.01)
        p = torch.cat([w[:, : last + 1], zh[:, None].repeat(1, last + 1, 1)], 2)
        h, skips = self.group(f"{name}.down_from_big", x), {}
        doublings = log2(self.size.side) - 2
        for j in range(doublings):
            style = p[:, last - 2 * j]
            h = self.smart(f"{name}.encoder_convs.{2 * j}", h, style, noise)
            skips[h.shape[-1]] = h
            h = self.styled(f"{name}.encoder_convs.{2 * j + 1}", h, style, noise, "down")
        m = self.group(f"{name}.final_layer", h)
        c = activated(self.bare(f"{name}.final_linear.0", m.flatten(1)), self.t[f"{name}.final_linear.0.bias"])
        h = activated(self.bare(f"{name}.final_transfer", c), self.t[f"{name}.final_transfer.bias"])
        q = torch.cat([p, c[:, None].repeat(1, last + 1, 1)], 2)
        h = self.smart(f"{name}.conv1", m + h.view_as(m), q[:, 0], noise)
        rgb = self.rgb(f"{name}.to_rgb1", h, q[:, 1], None)
        for k in range(doublings):
            h = self.styled(f"{name}.convs.{2 * k}", h, q[:, 2 * k + 1], noise, "up")
            h = h + skips[h.shape[-1]] + features[h.shape[-1]]
            h = self.smart(f"{name}.convs.{2 * k + 1}", h, q[:, 2 * k + 2], noise)
            rgb = self.rgb(f"{name}.to_rgbs.{k}", h, q[:, 2 * k + 3], rgb)
        return rgb

    def bare(self, path: str, x: Tensor) -> Tensor:
        weight = self.t[f"{path}.weight"]
        return F.linear(x, weight * (1 / sqrt(weight.shape[1])))
