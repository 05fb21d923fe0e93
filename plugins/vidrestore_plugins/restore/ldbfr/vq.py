"""Stage 1 as published: a VQ auto-encoder whose codes and degraded feature meet in dual cross-attention.

Du, Hu, Yi, Ma: "LD-BFR: Vector-Quantization-Based Face Restoration Model with Latent Diffusion Enhancement", ACM MM
2024. Its sister RestoreFormer (CVPR 2022; ++: TPAMI 2023) decodes the codes with queries from the encoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from vidrestore_plugins.restore.ldbfr.dca import DualCrossAttention
from vidrestore_plugins.restore.ldbfr.quantise import Codebook
from vidrestore_plugins.restore.ldbfr.taming import Decoder, Encoder, Geometry, resized

if TYPE_CHECKING:
    from vidrestore_plugins.restore.ldbfr.sizes import VQSize


class VQStage1(nn.Module):
    """Pictures of any side in [-1, 1]; inside, all are brought to the side that the weights were trained at."""

    def __init__(self, size: VQSize) -> None:
        super().__init__()
        self.size = size
        geo = geometry(size)
        self.encoder, self.decoder = Encoder(geo), Decoder(geo)
        self.quantize = Codebook(size.n_embed, size.embed_dim, unit=False)
        self.quant_conv = nn.Conv2d(size.embed_dim, size.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(size.embed_dim, size.embed_dim, 1)
        if size.kind == "vq_dca":
            self.mid_Cross = DualCrossAttention(size.embed_dim, size.dca_heads, "none")

    @property
    def book(self) -> Codebook:
        return self.quantize

    def encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Pictures [n, 3, s, s] -> h f32 [n, d, G, G], and RestoreFormer's queries (none for LD-BFR)."""
        z, queries = self.encoder(resized(x, self.size.input_size))
        return self.book.compared(self.quant_conv(z)), queries

    def look_up(self, codes: Tensor, h: Tensor) -> Tensor:
        """Codes i64 [n, G*G] and the feature they came from -> g [n, d, G, G], in the weights' type."""
        return self._attended(self.book.look_up(codes, *h.shape[-2:]), h)

    def decode(self, g: Tensor, x: Tensor, queries: list[Tensor]) -> Tensor:
        """g -> y1, as large as the pictures ``x`` [n, 3, s, s]."""
        return resized(self.decoder(self.post_quant_conv(g), queries), x.shape[-1])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(y1, h, codes), in one pass."""
        h, queries = self.encode(x)
        q, codes = self.book(h)
        return self.decode(self._attended(q, h), x, queries), h, codes

    def _attended(self, q: Tensor, h: Tensor) -> Tensor:
        kind = self.quant_conv.weight.dtype
        q, h = q.to(kind), h.to(kind)
        return self.mid_Cross(q, h) if self.size.kind == "vq_dca" else q


def geometry(size: VQSize) -> Geometry:
    top = len(size.ch_mult) - 1
    return Geometry(
        ch=size.ch,
        ch_mult=size.ch_mult,
        num_res_blocks=size.num_res_blocks,
        z_channels=size.embed_dim,
        heads=size.attn_heads,
        attn_enc=frozenset({top}),
        attn_dec=frozenset({top, top - 1} if size.kind == "restoreformer++" else {top}),
        queried=size.kind != "vq_dca",
    )
