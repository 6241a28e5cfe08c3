"""Which labels of truth and prediction share pixels: all that most scores need of a frame."""

from typing import NamedTuple, Sequence

import numpy as np
import torch

from ..ops import label_overlap

# Types that the operator counts as they are.
_COUNTED = (np.uint8, np.int8, np.int16, np.int32, np.int64)


class LabelPairs(NamedTuple):
    """
    Pairs of a true and a predicted label, and the pixels that they share.

    A pair may be listed several times: its pixels are then those of all its rows.

    Attributes:
        truth, prediction, pixels: (P,) int64.
    """

    truth: np.ndarray
    prediction: np.ndarray
    pixels: np.ndarray


def count_label_pairs(truth: np.ndarray, prediction: np.ndarray) -> LabelPairs:
    """
    Args:
        truth, prediction: integer labels of one shape.

    Raises:
        ValueError: if the shapes differ, or a label is beyond int64.
        TypeError: if labels are no integers.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"prediction must be {truth.shape}, as the truth, got {prediction.shape}")
    pairs, pixels = label_overlap(_to_tensor(truth), _to_tensor(prediction))
    return LabelPairs(pairs[:, 0].numpy(), pairs[:, 1].numpy(), pixels.numpy())


def join_label_pairs(parts: Sequence[LabelPairs]) -> LabelPairs:
    """The pairs of several frames."""
    return LabelPairs(*(np.concatenate(column) for column in zip(*parts)))


def _to_tensor(labels: np.ndarray) -> torch.Tensor:
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if labels.dtype == np.uint64 and labels.max(initial=0) > np.iinfo(np.int64).max:
        raise ValueError(f"labels must be below 2^63, got {labels.max()}")
    if labels.dtype not in _COUNTED:
        labels = labels.astype(np.int64)
    return torch.from_numpy(np.require(labels, requirements=["C", "W"]))
