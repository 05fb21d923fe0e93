"""What the network is trained to minimise: hard-mined cross-entropy, boxes and landmarks of matched priors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F
from torchvision.ops import box_iou

from vidrestore_plugins.detect.retinaface.priors import corners, encode_boxes, encode_landmarks

if TYPE_CHECKING:
    from torch import Tensor

MATCH, NEAR = 0.4, 0.3  # IoU of a prior that must say face; from here up to it says nothing
NEGATIVES = 7  # hardest background priors for each matched one, over the whole batch
BOX_WEIGHT, LANDMARK_WEIGHT = 1.0, 1.0
BOX_BETA = 0.1  # where smooth L1 turns into L1, in units of the codes
WING, BEND = 0.8, 0.2  # WING ln(1 + |x| / BEND): small errors of a landmark count by more than their size


@dataclass(frozen=True, eq=False)
class Labels:
    """What is in one training picture, in its pixels."""

    boxes: Tensor  # f32 [n, 4]
    landmarks: Tensor  # f32 [n, 5, 2]
    ignore: Tensor  # f32 [m, 4], regions of which nothing is said


@dataclass(frozen=True, eq=False)
class Targets:
    """Labels of one picture laid out over the priors."""

    kind: Tensor  # i64 [p]: 1 face, 0 background, -1 unsaid
    boxes: Tensor  # f32 [k, 4], codes of the k face priors, in their order
    landmarks: Tensor  # f32 [k, 5, 2]


def match(labels: Labels, prior: Tensor) -> Targets:
    """Each prior takes the face it overlaps best; each face gets its best prior whatever the overlap."""
    kind = torch.zeros(len(prior), dtype=torch.int64)
    squares = corners(prior)
    if len(labels.ignore):
        kind[_touched(labels.ignore, prior, squares)] = -1
    if not len(labels.boxes):
        return Targets(kind, torch.zeros(0, 4), torch.zeros(0, 5, 2))
    iou = box_iou(labels.boxes, squares)  # [n, p]
    overlap, face = iou.max(dim=0)
    kind[overlap >= NEAR] = -1
    kind[overlap >= MATCH] = 1
    best = iou.argmax(dim=1)
    kind[best], face[best] = 1, torch.arange(len(best))
    rows = kind == 1
    chosen, prior = face[rows], prior[rows]
    return Targets(
        kind,
        encode_boxes(labels.boxes[chosen], prior),
        encode_landmarks(labels.landmarks[chosen], prior),
    )


def _touched(ignore: Tensor, prior: Tensor, squares: Tensor) -> Tensor:
    """bool [p]: priors centred in an ignored region, or overlapping one as a face of its size would."""
    x, y = prior[:, 0], prior[:, 1]
    inside = (x >= ignore[:, 0:1]) & (x <= ignore[:, 2:3]) & (y >= ignore[:, 1:2]) & (y <= ignore[:, 3:4])
    alike: Tensor = box_iou(ignore, squares) >= NEAR / 2
    return (inside | alike).any(dim=0)


def multibox(outputs: tuple[Tensor, Tensor, Tensor], targets: list[Targets]) -> dict[str, Tensor]:
    """The network's box codes ``[b, p, 4]``, logits ``[b, p, 2]`` and landmark codes ``[b, p, 10]`` against the
    targets.

    Background priors are mined over the batch, so that a picture without faces counts by what it gets wrong.
    """
    boxes, logits, landmarks = outputs
    kind = torch.stack([t.kind for t in targets])
    face = kind == 1
    count = max(1, int(face.sum()))
    entropy = F.cross_entropy(logits.flatten(0, 1), kind.clamp(min=0).flatten(), reduction="none")
    background = entropy[(kind == 0).flatten()]
    hardest = background.topk(min(len(background), max(NEGATIVES * count, 32 * len(targets)))).values
    score = (entropy[face.flatten()].sum() + hardest.sum()) / count
    box = F.smooth_l1_loss(boxes[face], torch.cat([t.boxes for t in targets]), beta=BOX_BETA, reduction="sum") / count
    wanted = torch.cat([t.landmarks for t in targets]).flatten(1)
    point = WING * ((landmarks[face] - wanted).abs() / BEND).log1p().sum() / count
    total = score + BOX_WEIGHT * box + LANDMARK_WEIGHT * point
    return {"loss": total, "score": score, "box": box, "landmark": point}
