"""Perfect predictions of discs that move over a floor: what a trained network would give."""

from typing import Dict, Mapping, Sequence, Tuple

import torch
from torch import Tensor

Point = Tuple[int, int]
SIZE = (33, 49)
# Class 0 is the floor, class 1 the discs.
RADIUS = 4


def discs(centers: Mapping[str, Point]) -> Tuple[Tensor, Dict[str, Tensor]]:
    """The class map (H, W), and the mask (H, W) of each disc; later ones hide earlier ones."""
    y, x = (torch.arange(side) for side in SIZE)
    classes, masks = torch.zeros(SIZE, dtype=torch.int64), {}
    for name, (center_y, center_x) in centers.items():
        inside = (y[:, None] - center_y) ** 2 + (x - center_x) ** 2 <= RADIUS**2
        masks = {other: mask & ~inside for other, mask in masks.items()}
        masks[name] = inside
        classes[inside] = 1
    return classes, masks


def predict(centers: Mapping[str, Point]) -> Dict[str, Tensor]:
    """Semantic logits, center heatmap and offsets of one image, at its own resolution."""
    classes, masks = discs(centers)
    logits = 10.0 * torch.nn.functional.one_hot(classes, 2).permute(2, 0, 1)[None].float()
    heatmap = torch.zeros(1, 1, *SIZE)
    for y, x in centers.values():
        heatmap[0, 0, y, x] = 1.0
    return {
        "semantic_logits": logits,
        "center_heatmap": heatmap,
        "center_offsets": offsets_to(masks, centers),
    }


def offsets_to(masks: Mapping[str, Tensor], centers: Mapping[str, Point]) -> Tensor:
    """(1, 2, H, W) from the pixels of each mask to the center of that name; else 0."""
    grid = torch.stack(torch.meshgrid(*map(torch.arange, SIZE), indexing="ij")).float()
    offsets = torch.zeros(1, 2, *SIZE)
    for name, mask in masks.items():
        if name in centers:
            target = torch.tensor(centers[name], dtype=torch.float32)[:, None, None]
            offsets[0][:, mask] = (target - grid)[:, mask]
    return offsets


def numbers_at(track: Tensor, centers: Sequence[Point]) -> Sequence[int]:
    """The labels of a (H, W) map at points."""
    return [int(track[y, x]) for y, x in centers]
