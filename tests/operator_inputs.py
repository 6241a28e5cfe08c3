"""Inputs of operator tests: head outputs with instances, as a network might give them."""

from typing import Any, Dict, Tuple

import torch
from torch import Tensor

from deeplab2_d2.structures import Prediction


def make_prediction(
    num_images: int,
    num_channels: int,
    size: Tuple[int, int],
    num_instances: int,
    *,
    seed: int = 0,
    noise: float = 0.5,
    dtype: torch.dtype = torch.float32,
) -> Prediction:
    """Patches of classes, peaks at random points, and offsets to the nearest of them with noise."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    coarse = 4 * randn(num_images, num_channels, max(height // 6, 1), max(width // 6, 1))
    logits = torch.nn.functional.interpolate(coarse, size=size) + noise * randn(
        num_images, num_channels, height, width
    )
    heatmap = 0.05 * torch.rand(num_images, 1, height, width, generator=generator)
    offsets = noise * randn(num_images, 2, height, width)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for image in range(num_images if num_instances else 0):
        center_y = torch.randint(height, (num_instances,), generator=generator)
        center_x = torch.randint(width, (num_instances,), generator=generator)
        # Few different heights, so that there are ties.
        peaks = torch.randint(2, 8, (num_instances,), generator=generator) / 8
        heatmap[image, 0, center_y, center_x] = peaks
        delta_y, delta_x = center_y[:, None, None] - y, center_x[:, None, None] - x
        nearest = (delta_y**2 + delta_x**2).argmin(dim=0, keepdim=True)
        offsets[image, 0] += delta_y.gather(0, nearest)[0]
        offsets[image, 1] += delta_x.gather(0, nearest)[0]
    return {
        "semantic_logits": logits.to(dtype),
        "center_heatmap": heatmap.to(dtype),
        "center_offsets": offsets.to(dtype),
    }


def make_slots(
    num_images: int,
    num_slots: int,
    num_classes: int,
    size: Tuple[int, int],
    *,
    seed: int = 0,
    is_rounded: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Tuple[Tensor, Tensor]:
    """
    Mask logits (N, S, h, w) of patches with noise, and class logits (N, S, C + 1) of slots of which
    some are sure; rounded, so that there are ties.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    patches = (num_images, num_slots, max(height // 6, 1), max(width // 6, 1))
    coarse = 4 * torch.randn(patches, generator=generator)
    masks = torch.randn(num_images, num_slots, height, width, generator=generator)
    if num_images > 0:
        masks += torch.nn.functional.interpolate(coarse, size=size)
    class_logits = 3 * torch.randn(num_images, num_slots, num_classes + 1, generator=generator)
    if is_rounded:
        masks, class_logits = (2 * masks).round() / 2, class_logits.round()
    return masks.to(dtype), class_logits.to(dtype)


def differences(ours: Any, theirs: Any, tolerance: float = 2e-6) -> Dict[str, Any]:
    """
    Fields of two named tuples (nested) that differ: integers at all, floats beyond a tolerance.

    The tolerance is for class probabilities, whose exponentials are not the same on every device.
    """
    found: Dict[str, Any] = {}
    for name, left, right in zip(ours._fields, ours, theirs):
        if hasattr(left, "_fields"):
            found.update(differences(left, right, tolerance))
        elif left.dtype.is_floating_point and not torch.allclose(
            left, right, rtol=0, atol=tolerance, equal_nan=True
        ):
            found[name] = (left - right).abs().max().item()
        elif not left.dtype.is_floating_point and not torch.equal(left, right):
            found[name] = int((left != right).sum())
    return found
