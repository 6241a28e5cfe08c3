"""The panoptic label: one integer that holds a semantic class and an instance number."""

from typing import Tuple, TypeVar

import numpy as np
from torch import Tensor

# The value of void pixels in panoptic predictions (not in ground truth, see ``ignore_label``).
VOID_PANOPTIC_LABEL = -1

Labels = TypeVar("Labels", Tensor, np.ndarray)


def _check_label_divisor(label_divisor: int) -> None:
    if label_divisor < 2:
        raise ValueError(f"label_divisor must be at least 2, got {label_divisor}")


def encode_panoptic(semantic: Labels, instance: Labels, label_divisor: int) -> Labels:
    """
    Join a semantic and an instance map: ``semantic * label_divisor + instance``.

    Args:
        semantic: any shape, integer; a negative value means void.
        instance: same shape, integer, ``0 <= instance < label_divisor`` where not void. 0 is stuff,
            or in ground truth a crowd region of a thing class.

    Returns:
        Same shape and dtype as ``semantic``; `VOID_PANOPTIC_LABEL` where ``semantic`` is negative.

    Raises:
        ValueError: if the divisor is below 2, the shapes differ or an instance number does not fit
            the divisor.
    """
    _check_label_divisor(label_divisor)
    if tuple(semantic.shape) != tuple(instance.shape):
        raise ValueError(
            "encode_panoptic: semantic and instance must have the same shape, got "
            f"{tuple(semantic.shape)} and {tuple(instance.shape)}"
        )
    is_void = semantic < 0
    does_not_fit = ((instance < 0) | (instance >= label_divisor)) & ~is_void
    if bool(does_not_fit.any()):
        raise ValueError(
            f"encode_panoptic: instance must be in [0, {label_divisor}), "
            f"got {int(instance[does_not_fit][0])}"
        )
    panoptic = semantic * label_divisor + instance
    panoptic[is_void] = VOID_PANOPTIC_LABEL
    return panoptic


def decode_panoptic(panoptic: Labels, label_divisor: int) -> Tuple[Labels, Labels]:
    """
    Split a panoptic map into its semantic and its instance map.

    Args:
        panoptic: any shape, integer. Negative values are void.

    Returns:
        ``(semantic, instance)``, same shape and dtype. Void is -1 in the first and 0 in the second.
    """
    _check_label_divisor(label_divisor)
    is_void = panoptic < 0
    semantic = panoptic // label_divisor
    instance = panoptic % label_divisor
    semantic[is_void] = -1
    instance[is_void] = 0
    return semantic, instance
