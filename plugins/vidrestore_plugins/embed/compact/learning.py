"""What the student of embed=compact is to learn, and how well it does on faces that it never saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vidrestore.train.embedder import on_template
from vidrestore.train.footage import drawn, filmed
from vidrestore.train.portraits import as_tensor
from vidrestore_plugins.embed.compact.network import Compact, Size, looked_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from vidrestore.train.embedder import Embedder
    from vidrestore.train.footage import Level
    from vidrestore.train.portraits import Portraits
    from vidrestore_plugins.embed.compact.faces import Pairs

_HINTED = (128, 512)  # channels of the teacher's maps at 14 and 7 cells a side
_HINT = 0.5  # weight of the maps beside the embeddings
LEVELS: tuple[Level, ...] = ("mild", "medium", "heavy")


class Student(nn.Module):
    """The network, and what carries its maps to the teacher's while it learns."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.net = Compact(size)
        widths = (size.stages[1], size.head)
        self.carry = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(widths, _HINTED, strict=True))

    def forward(self, faces: Tensor) -> tuple[Tensor, list[Tensor]]:
        vectors, *maps = self.net(faces)
        return vectors, [carry(m) for carry, m in zip(self.carry, maps, strict=True)]


def losses(teacher: Embedder, student: nn.Module, pairs: Pairs) -> dict[str, Tensor]:
    """One minus the cosine to the teacher of the truth: of embeddings, and at every cell of the maps before them.

    FitNets' hints (A. Romero et al., ICLR 2015) tell the student at each place what is to be seen there: a picture
    teaches it more than 128 numbers would.
    """
    device = next(student.parameters()).device
    truth, damaged = pairs.truth.to(device), pairs.damaged.to(device)
    with torch.autocast(device.type, torch.bfloat16):
        with torch.no_grad():
            vectors, (_, *maps) = teacher(on_template(truth).contiguous(memory_format=torch.channels_last))
        both = looked_at(torch.cat([truth, damaged])).contiguous(memory_format=torch.channels_last)
        found, seen = student(both)
    cosines = (found * torch.cat([vectors, vectors])).sum(1)
    of_truth, of_damaged = (1 - cosines).reshape(2, -1).mean(1)
    hints = [
        (1 - F.cosine_similarity(a.float(), torch.cat([b, b]).float(), dim=1)).mean()
        for a, b in zip(seen, maps, strict=True)
    ]
    loss = of_truth + of_damaged + _HINT * (hints[0] + hints[1])
    return {"loss": loss, "clean": of_truth, "damaged": of_damaged, "map14": hints[0], "map7": hints[1]}


@torch.inference_mode()
def known(net: Compact, held: Portraits, teacher: Embedder) -> Iterator[str]:
    """A line a level of damage: how near the student is to the teacher, and how surely each knows a damaged face
    among all held-out ones (share whose nearest clean face is their own; area under the curve of same and other)."""
    rng = np.random.default_rng(37)  # the same damage each time
    truth = torch.stack([as_tensor(image) for image in held.images])

    def of_student(faces: Tensor) -> Tensor:
        return _batched(lambda x: net.eval()(looked_at(x))[0], faces)

    def of_teacher(faces: Tensor) -> Tensor:
        return _batched(lambda x: teacher(on_template(x))[0], faces)

    right, said = of_teacher(truth), of_student(truth)
    yield f"clean    to the teacher {float((said * right).sum(1).mean()):.3f}"
    for level in LEVELS:
        damaged = torch.stack([filmed(face, drawn(rng, level), rng, length=2, keep=1).damaged[0] for face in truth])
        again, taught = of_student(damaged), of_teacher(damaged)
        near = [float((x * right).sum(1).mean()) for x in (again, taught)]
        yield (
            f"{level:8} to the teacher's clean {near[0]:.3f} (its own {near[1]:.3f})"
            f"   {_told_apart(again @ said.T)}   teacher {_told_apart(taught @ right.T)}"
        )


def _batched(embed: Callable[[Tensor], Tensor], faces: Tensor) -> Tensor:
    return torch.cat([embed(part).cpu() for part in torch.split(faces, 32)])


def _told_apart(cosines: Tensor) -> str:
    """Of [n, n], the diagonal being the same people."""
    own = torch.eye(len(cosines), dtype=torch.bool)
    same, other = cosines[own], cosines[~own]
    first = float((cosines.argmax(1) == torch.arange(len(cosines))).float().mean())
    area = float((same[:, None] > other[None]).float().mean())
    quantiles: Any = (same.quantile(0.05), other.quantile(0.99))
    low, high = (float(q) for q in quantiles)
    return f"rank 1 {first:.3f} AUC {area:.4f} same 5% {low:.2f} other 99% {high:.2f}"
