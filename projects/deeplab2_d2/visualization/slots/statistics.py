"""How often each mask slot predicts each class, and where."""

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from ..pictures import Array, to_numpy


class SlotSegment(NamedTuple):
    """
    What a slot has in an image.

    Attributes:
        slot: number of the slot.
        class_id: its contiguous class; -1 if no pixel of the map is the slot's.
        area: pixels of the map.
    """

    slot: int
    class_id: int
    area: int


def slot_segments(slot_map: Array, class_map: Array) -> List[SlotSegment]:
    """
    The slots that have pixels in a panoptic map, the largest first.

    Args:
        slot_map: (H, W) integer, the slot of a pixel; -1 for none.
        class_map: (H, W) integer, contiguous class of a pixel in the final map; -1 for void, for
            pixels that lost their slot to a threshold or a limit on area.

    Returns:
        One item a slot, ties in area by the slot; a slot has one class in an image.
    """
    slot_map, class_map = to_numpy(slot_map), to_numpy(class_map)
    is_kept = (slot_map >= 0) & (class_map >= 0)
    pairs = np.stack([slot_map[is_kept], class_map[is_kept]], axis=1)
    rows, areas = np.unique(pairs, axis=0, return_counts=True)
    segments = [SlotSegment(int(s), int(c), int(n)) for (s, c), n in zip(rows, areas)]
    return sorted(segments, key=lambda segment: (-segment.area, segment.slot))


class SlotStatistics:
    """
    Joint distribution of slots and classes, and the average mask of each slot, over images.

    Reference: MaX-DeepLab (arXiv:2012.00759), Fig. A.3 and A.4. A slot *fires* in an image if
    pixels of the final panoptic map are its own; it then has one class.

    Attributes:
        firings: (S, C) int64: in how many images the slot fired with the class.
        num_images: how many were added.
    """

    def __init__(self, num_slots: int, num_classes: int):
        self.firings = np.zeros((num_slots, num_classes), np.int64)
        self.num_images = 0
        self._mask_sums: List[np.ndarray] = []

    def add(self, segments: Sequence[SlotSegment], masks: Array) -> None:
        """
        Count an image.

        Args:
            segments: its slots, from :func:`slot_segments`.
            masks: (S, h, w) float, the probability that a pixel is the slot's, at a size that all
                images are brought to.

        Raises:
            ValueError: if there is another number of slots, or the size is not the first image's.
        """
        masks = to_numpy(masks)
        if not self._mask_sums:
            self._mask_sums = [np.zeros(masks.shape[1:], np.float64) for _ in self.firings]
        expected = (len(self.firings), *self._mask_sums[0].shape)
        if masks.shape != expected:
            raise ValueError(f"masks must be {expected}, as those before, got {masks.shape}")
        for segment in segments:
            self.firings[segment.slot, segment.class_id] += 1
            self._mask_sums[segment.slot] += masks[segment.slot]
        self.num_images += 1

    @property
    def totals(self) -> np.ndarray:
        """(S,) int64, in how many images each slot fired."""
        return self.firings.sum(axis=1)

    def firing_slots(self) -> List[int]:
        """The slots that fired at all, most often first, ties by the slot."""
        order = np.argsort(-self.totals, kind="stable")
        return [int(slot) for slot in order if self.totals[slot]]

    def average_mask(self, slot: int) -> np.ndarray:
        """
        (h, w) float64, the slot's mean probability over the images in which it fired.

        Raises:
            ValueError: if it never fired.
        """
        if self.totals[slot] == 0:
            raise ValueError(f"slot must have fired to have an average mask, got {slot}")
        return self._mask_sums[slot] / self.totals[slot]

    def top_classes(self, slot: int, count: int) -> List[Tuple[int, int]]:
        """(class, firings) of the slot's most frequent classes, at most ``count``."""
        order = np.argsort(-self.firings[slot], kind="stable")[:count]
        return [(int(c), int(self.firings[slot, c])) for c in order if self.firings[slot, c]]
