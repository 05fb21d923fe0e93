"""From the network's numbers to faces: decoding, suppression, and a vote of the priors that agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torchvision.ops import batched_nms, box_iou

from vidrestore_plugins.detect.retinaface.priors import decode_boxes, decode_landmarks

if TYPE_CHECKING:
    from torch import Tensor

DOUBT = 0.5  # share of the threshold from which a prior takes part in the vote
AGREE = 0.6  # IoU from which a prior votes on the face that suppressed it


def search(outputs: tuple[Tensor, Tensor, Tensor], prior: Tensor, threshold: float, nms: float) -> Tensor:
    """Box codes ``[b, p, 4]``, logits ``[b, p, 2]`` and landmark codes ``[b, p, 10]`` -> the faces, best first.

    A row of the ``[n, 16]`` is picture, score, box x0 y0 x1 y1, five landmarks x y.
    """
    codes, logits, points = outputs
    scores = (logits[..., 1] - logits[..., 0]).sigmoid()  # softmax over two
    picture, cell = (scores >= DOUBT * threshold).nonzero(as_tuple=True)
    score, prior = scores[picture, cell], prior[cell]
    boxes = decode_boxes(codes[picture, cell], prior)
    landmarks = decode_landmarks(points[picture, cell].view(-1, 5, 2), prior)
    # In f64 the shift by which batched_nms keeps pictures apart changes no overlap.
    kept = batched_nms(boxes.double(), score.double(), picture, nms)
    kept = kept[score[kept] >= threshold]
    shapes = voted(torch.cat((boxes, landmarks.flatten(1)), dim=1), score, picture, kept)
    return torch.cat((picture[kept, None].to(shapes.dtype), score[kept, None], shapes), dim=1)


def voted(shapes: Tensor, score: Tensor, picture: Tensor, kept: Tensor) -> Tensor:
    """``[k, 14]``: boxes and landmarks of the kept rows, each the mean of all ``[n, 14]`` rows of its picture
    that overlap it by AGREE or more, weighted by score."""
    agree = box_iou(shapes[kept, :4], shapes[:, :4]) >= AGREE  # [k, n]
    agree &= picture[kept, None] == picture[None]
    weight: Tensor = agree * score
    return (weight @ shapes) / weight.sum(dim=1, keepdim=True)
