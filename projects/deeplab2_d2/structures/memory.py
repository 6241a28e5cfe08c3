"""What an encoder with a memory path returns beside its features."""

from typing import Dict, NamedTuple

from torch import Tensor


class MemoryShape(NamedTuple):
    """
    Attributes:
        num_slots: mask slots, K.
        class_channels, mask_channels: of the two features of a slot.
    """

    num_slots: int
    class_channels: int
    mask_channels: int


class Memory(NamedTuple):
    """
    What the mask slots have gathered.

    Attributes:
        class_features: (N, class_channels, K), for the class of each slot.
        mask_features: (N, mask_channels, K), for its mask.
    """

    class_features: Tensor
    mask_features: Tensor


class Encoded(NamedTuple):
    """
    Attributes:
        features: name to (N, C, h, w).
        memory: of the mask slots.
    """

    features: Dict[str, Tensor]
    memory: Memory
