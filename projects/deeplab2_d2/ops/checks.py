"""Checks of operator arguments, shared by the public functions."""

from typing import Sequence, Tuple

from torch import Tensor


def check_shape(name: str, tensor: Tensor, shape: Sequence[object], words: str) -> None:
    """
    Check a tensor's shape.

    Args:
        name: ``operator: argument``, for the message.
        shape: one entry a dimension: a number, or a letter that stands for any number.
        words: the shape as the docstring writes it.

    Raises:
        ValueError: if the shape differs.
    """
    fits = tensor.dim() == len(shape) and all(
        not isinstance(expected, int) or expected == actual
        for expected, actual in zip(shape, tensor.shape)
    )
    if not fits:
        raise ValueError(f"{name} must be {words}, got {tuple(tensor.shape)}")


def check_size(name: str, size: Tuple[int, int]) -> None:
    """Raise ValueError unless ``size`` is (height, width) of 1 to 2**31 - 1 pixels."""
    if len(size) != 2 or min(size) < 1 or size[0] * size[1] >= 2**31:
        raise ValueError(f"{name} must be (height, width) of 1 to 2**31 - 1 pixels, got {size}")


def check_scale(name: str, scale: Tuple[float, float], size: Tuple[int, int]) -> None:
    """Raise ValueError unless source positions of ``size`` are at least 0 and less than 2**31."""
    if len(scale) != 2 or not all(0 <= s * side < 2**31 for s, side in zip(scale, size)):
        raise ValueError(
            f"{name} must be at least 0 and positions less than 2**31, got {tuple(scale)} for a "
            f"size of {tuple(size)}"
        )


def check_class_ids(name: str, class_ids: Sequence[int], num_classes: int) -> None:
    """Raise ValueError unless every id is in ``[0, num_classes)``."""
    wrong = [c for c in class_ids if not 0 <= c < num_classes]
    if wrong:
        raise ValueError(f"{name} must be in [0, {num_classes}), got {wrong[0]}")


def check_label_divisor(name: str, label_divisor: int, num_classes: int) -> None:
    """Raise ValueError unless panoptic labels of ``num_classes`` classes are positive int32."""
    if label_divisor < 2 or num_classes * label_divisor > 2**31:
        raise ValueError(
            f"{name} must be at least 2 and num_classes * label_divisor at most 2**31, got "
            f"{label_divisor} for {num_classes} classes"
        )


def check_range(name: str, labels: Tensor, lowest: int, highest: int) -> None:
    """Raise ValueError unless every label (at least one) is in ``[lowest, highest]``."""
    smallest, largest = (int(value) for value in labels.aminmax())
    if smallest < lowest or largest > highest:
        value = smallest if smallest < lowest else largest
        raise ValueError(f"{name} must be in [{lowest}, {highest}], got {value}")
