"""From pictures to faces: two scales through the network, suppression, and a vote of the priors that agree.

Small faces are read off the fine grids of the picture, large ones off all grids of the picture at half size. The
coarse grid of the full picture is not asked: at half size the same face lies on a grid twice as fine in relation
to it, where landmarks are a quarter nearer and blurred faces are found more often, for a quarter more work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torchvision.ops import batched_nms, box_iou

from vidrestore_plugins.detect.retinaface.network import halved, network_input
from vidrestore_plugins.detect.retinaface.priors import SIDES, STEPS, decode_boxes, decode_landmarks, priors

if TYPE_CHECKING:
    from torch import Tensor, nn

DOUBT = 0.15  # score from which a prior takes part in the vote
AGREE = 0.6  # IoU from which a prior votes on the face that suppressed it
WITNESSES = 3  # priors whose mean score is a face's: a lone confident one is mostly wrong


def outputs(net: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """uint8 RGB ``[b, h, w, 3]`` -> box codes ``[b, p, 4]``, logits ``[b, p, 2]``, landmark codes ``[b, p, 10]`` of
    the priors of `grid`."""
    x = network_input(images)
    fine = fine_count(x.shape[2], x.shape[3])
    pairs = zip(net(x), net(halved(x)), strict=True)
    codes, logits, points = (torch.cat((full[:, :fine], small), dim=1) for full, small in pairs)
    return codes, logits, points


def grid(height: int, width: int) -> Tensor:
    """f32 ``[p, 3]``: the priors of `outputs` for pictures of that many px, in pixels of these."""
    full = priors(-(-height // 32) * 32, -(-width // 32) * 32)
    half = priors(-(-height // 64) * 32, -(-width // 64) * 32)
    fine = fine_count(-(-height // 32) * 32, -(-width // 32) * 32)
    moved = torch.cat((2 * half[:, :2] + 0.5, 2 * half[:, 2:]), dim=1)  # pixel centres: x + 1/2 = 2 (x' + 1/2)
    return torch.cat((full[:fine], moved))


def fine_count(height: int, width: int) -> int:
    """Priors of all levels but the coarsest."""
    return sum(len(sides) * (height // step) * (width // step) for step, sides in zip(STEPS[:-1], SIDES, strict=False))


def search(found: tuple[Tensor, Tensor, Tensor], prior: Tensor, threshold: float, nms: float) -> Tensor:
    """Box codes ``[b, p, 4]``, logits ``[b, p, 2]`` and landmark codes ``[b, p, 10]`` -> the faces, best first.

    A row of the ``[n, 16]`` is picture, score, box x0 y0 x1 y1, five landmarks x y.
    """
    codes, logits, points = found
    scores = (logits[..., 1] - logits[..., 0]).sigmoid()  # softmax over two
    picture, cell = (scores >= min(DOUBT, threshold)).nonzero(as_tuple=True)
    score, prior = scores[picture, cell], prior[cell]
    boxes = decode_boxes(codes[picture, cell], prior)
    landmarks = decode_landmarks(points[picture, cell].view(-1, 5, 2), prior)
    # In f64 the shift by which batched_nms keeps pictures apart changes no overlap.
    kept = batched_nms(boxes.double(), score.double(), picture, nms)
    kept = kept[score[kept] >= threshold]  # the mean of several cannot be higher
    believed, shapes = voted(torch.cat((boxes, landmarks.flatten(1)), dim=1), score, picture, kept)
    faces = torch.cat((picture[kept, None].to(shapes.dtype), believed[:, None], shapes), dim=1)
    faces = faces[believed >= threshold]
    return faces[faces[:, 1].argsort(descending=True, stable=True)]


def voted(shapes: Tensor, score: Tensor, picture: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Scores ``[k]``, each the mean of the WITNESSES best rows of its picture that overlap a kept row by AGREE or
    more (a missing one counts 0), and ``[k, 14]``: boxes and landmarks, the mean of all these rows weighted by score.
    """
    agree = box_iou(shapes[kept, :4], shapes[:, :4]) >= AGREE  # [k, n]
    agree &= picture[kept, None] == picture[None]
    weight: Tensor = agree * score
    believed = weight.topk(min(WITNESSES, weight.shape[1]), dim=1).values.sum(dim=1) / WITNESSES
    return believed, (weight @ shapes) / weight.sum(dim=1, keepdim=True).clamp(min=1e-6)
