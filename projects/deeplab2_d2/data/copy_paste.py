"""
Panoptic copy-paste: segments of one image are pasted over another.

Reference: DeepLab2's ``sample_generator.py``, which names "k-means Mask Transformer" (ECCV 2022) as
its source.
"""

from typing import NamedTuple

import numpy as np

from .segment_map import SegmentTable

# Label of padding in the image that is pasted from; unlike void it is never pasted.
PADDING = -1
_CHOICES = ("random", "all", "none")


class LabeledImage(NamedTuple):
    """
    An image with its segments.

    Args:
        image: (H, W, 3) float32.
        segment_map: (H, W) int32, 0 = void; may have ``PADDING`` in an image to paste from.
        segments: the table.
    """

    image: np.ndarray
    segment_map: np.ndarray
    segments: SegmentTable


class PanopticCopyPaste:
    """
    Choose segments of one image and paste them over another of the same size.

    A random number of segments, from none to all, is chosen; then each option may override it.

    Args:
        thing, stuff, void: "random" leaves it to the choice, "all" pastes every such segment,
            "none" none. Crowds count as things.
    """

    def __init__(self, *, thing: str = "random", stuff: str = "random", void: str = "none"):
        for name, option in (("thing", thing), ("stuff", stuff), ("void", void)):
            if option not in _CHOICES:
                raise ValueError(f"{name} must be one of {_CHOICES}, got {option!r}")
        self.thing = thing
        self.stuff = stuff
        self.void = void

    def __call__(
        self, base: LabeledImage, source: LabeledImage, rng: np.random.Generator
    ) -> LabeledImage:
        """
        Args:
            base: pasted onto.
            source: pasted from, of the same size.
            rng: chooses the segments.

        Returns:
            the new image; its table has the segments of ``base``, then those of ``source``.

        Raises:
            ValueError: if the sizes differ.
        """
        if base.segment_map.shape != source.segment_map.shape:
            raise ValueError(
                f"base and source must have one size, got {base.segment_map.shape} and "
                f"{source.segment_map.shape}"
            )
        chosen = self._choose(source, rng)[source.segment_map + 1]
        num_base = len(base.segments)
        moved = np.where(source.segment_map > 0, source.segment_map + num_base, 0)
        return LabeledImage(
            np.where(chosen[..., None], source.image, base.image),
            np.where(chosen, moved, base.segment_map).astype(np.int32),
            SegmentTable(
                *(
                    np.concatenate([getattr(base.segments, k), getattr(source.segments, k)])
                    for k in ("category_ids", "is_thing", "is_crowd")
                )
            ),
        )

    def _choose(self, source: LabeledImage, rng: np.random.Generator) -> np.ndarray:
        """(S + 2,) bool: whether padding, void and each segment are pasted."""
        num_labels = len(source.segments) + 2
        present = np.flatnonzero(np.bincount(source.segment_map.ravel() + 1, minlength=num_labels))
        chosen = np.zeros(num_labels, bool)
        chosen[rng.permutation(present)[: int(rng.integers(len(present) + 1))]] = True

        is_thing = np.concatenate([[False, False], source.segments.is_thing])
        is_void = np.arange(num_labels) == 1
        is_stuff = ~is_thing & ~is_void
        for kind, option in ((is_thing, self.thing), (is_stuff, self.stuff), (is_void, self.void)):
            if option != "random":
                chosen[kind] = option == "all"
        chosen[0] = False
        return chosen
