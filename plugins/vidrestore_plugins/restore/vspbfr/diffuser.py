"""D: the style code of a damaged face -> that of a healthy one, by diffusion in W+.

W. Lu, J. Wang, T. Wang, K. Zhang, X. Jiang, H. Zhao: "Visual Style Prompt Learning Using Diffusion Models for Blind
Face Restoration" (VSPBFR), Pattern Recognition 161, 2025; schedule and posterior mean: J. Ho, A. Jain, P. Abbeel,
"Denoising Diffusion Probabilistic Models", NeurIPS 2020, equation 7. Names of tensors are those of the public code
LonglongaaaGo/VSPBFR.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidrestore_plugins.restore.vspbfr.layers import normed

if TYPE_CHECKING:
    from vidrestore_plugins.restore.vspbfr.sizes import DiffuserSize


class ChannelAttention(nn.Module):
    """``LN(v softmax(k^T q / sqrt d))``, over channels; k from the condition."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.q_matrix = nn.Linear(dim, dim, bias=False)
        self.k_matrix = nn.Linear(dim + 1, dim, bias=False)
        self.v_matrix = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """x [n, codes, dim], e [n, codes, dim + 1] -> as x."""
        q, k, v = self.q_matrix(x), self.k_matrix(e), self.v_matrix(x)
        m = torch.softmax(k.transpose(1, 2) @ q / sqrt(x.shape[2]), 1)
        return F.layer_norm(v @ m, x.shape[2:])


class Block(nn.Module):
    """Codes attend to the condition's, channels to its channels; the condition then scales and shifts."""

    def __init__(self, dim: int, scale: Literal["codes", "channels"] = "codes") -> None:
        super().__init__()
        self.scaled_by = 1 if scale == "codes" else 2  # the dimension whose length it is
        self.q_matrix = nn.Linear(dim + 1, dim, bias=False)
        self.k_matrix = nn.Linear(dim, dim, bias=False)
        self.v_matrix = nn.Linear(dim, dim, bias=False)
        self.attention_layer = ChannelAttention(dim)
        self.gamma_, self.beta_ = head(dim), head(dim)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """x [n, codes, dim], e [n, codes, dim + 1] -> as x."""
        x = normed(x)
        k, q, v = self.k_matrix(x), self.q_matrix(e), self.v_matrix(x)
        a = torch.softmax(k @ q.transpose(1, 2) / sqrt(x.shape[self.scaled_by]), 2)
        h = a @ v
        h = F.layer_norm(h + self.attention_layer(x, e), x.shape[2:])
        gamma = torch.sigmoid(self.gamma_(e))
        beta = sqrt(2) * F.leaky_relu(self.beta_(e), 0.2)
        return h * (1 + gamma) + beta


class ScaledLeakyReLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return sqrt(2) * F.leaky_relu(x, 0.2)


def head(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim + 1, dim), nn.LayerNorm(dim), ScaledLeakyReLU(), nn.Linear(dim, dim))


class Diffuser(nn.Module):
    """``dim``: of a code."""

    def __init__(self, size: DiffuserSize, dim: int) -> None:
        super().__init__()
        self.size = size
        self.att_mapper = nn.ModuleList(Block(dim, size.scale) for _ in range(size.blocks))

    def forward(self, w: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """The state before step t [n] and the damaged face's codes, both [n, codes, dim] -> x0, as they are."""
        tau = (t.to(w.dtype) / self.size.steps)[:, None, None].expand(*condition.shape[:2], 1)
        e = torch.cat([condition, tau], 2)
        for block in self.att_mapper:
            w = block(w, e)
        return w

    def sample(self, start: Tensor, condition: Tensor) -> Tensor:
        """``w <- a_t D(w, condition, t) + b_t w``, t = T-1..0, from N(0, 1); both [n, codes, dim] -> w0."""
        w = start
        a, b = (c.to(start) for c in posterior(self.size))
        for t in range(self.size.steps - 1, -1, -1):
            x0 = self(w, condition, torch.full((len(w),), t, device=w.device))
            w = a[t] * x0 + b[t] * w
        return w


def posterior(size: DiffuserSize) -> tuple[Tensor, Tensor]:
    """(a_t, b_t), f32 [T]: the mean of w_{t-1} given x0 and w_t is ``a_t x0 + b_t w_t``; a_0 = 1, b_0 = 0.

    ``a_t = beta_t sqrt(abar_{t-1}) / (1 - abar_t)``, ``b_t = (1 - abar_{t-1}) sqrt(1 - beta_t) / (1 - abar_t)``.
    """
    roots = torch.linspace(sqrt(size.beta_start), sqrt(size.beta_end), size.steps, dtype=torch.float64, device="cpu")
    beta = roots.square()
    abar = (1 - beta).cumprod(0)
    before = torch.cat([abar.new_ones(1), abar[:-1]])
    a = beta * before.sqrt() / (1 - abar)
    b = (1 - before) * (1 - beta).sqrt() / (1 - abar)
    return a.float(), b.float()
