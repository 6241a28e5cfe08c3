"""The semantic part of a model's output: scores, or labels alone."""

from typing import Any, Mapping

from torch import Tensor

# Key of an output dict: (H, W) int32, the class of the largest score. Void has none.
SEMANTIC_LABELS = "sem_seg_labels"


def has_semantic(output: Mapping[str, Any]) -> bool:
    """Whether :func:`semantic_labels_of` finds something."""
    return SEMANTIC_LABELS in output or "sem_seg" in output


def semantic_labels_of(output: Mapping[str, Any]) -> Tensor:
    """
    Args:
        output: of a model: ``sem_seg_labels``, or ``sem_seg``, (C, H, W) scores.

    Returns:
        (H, W) integer class ids; of equal scores the lowest.
    """
    if SEMANTIC_LABELS in output:
        return output[SEMANTIC_LABELS]
    return output["sem_seg"].argmax(dim=0)
