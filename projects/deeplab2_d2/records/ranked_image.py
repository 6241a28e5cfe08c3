"""What a model that orders instances says about one image."""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Protocol, Tuple

from detectron2.structures import Instances
from torch import Tensor


class Merge(Protocol):
    """Paints the instances of an image over each other, and stuff where none is."""

    def __call__(
        self, ranks: Optional[Tensor], overlap_threshold: Optional[float] = None
    ) -> Tuple[Tensor, List[Dict[str, Any]]]:
        """
        Args:
            ranks: (N,), the highest on top, ties to the higher detection score; None: detection
                scores.
            overlap_threshold: an instance is left out if a larger part of it is covered; None: the
                model's, 1: none is.

        Returns:
            Detectron2's ``panoptic_seg``; ``instance_id`` of a thing is its place among the
            instances.
        """
        ...


@dataclass(frozen=True)
class RankedImage:
    """
    Attributes:
        instances: that are sure enough to be painted, in the frame of the outputs: ``pred_masks``
            (N, H, W) bool, ``pred_classes`` (N,) contiguous ids, ``scores`` (N,) of detection.
        rank_scores: (N,) the model's, the highest on top.
        thing_ids: contiguous ids of the ranking map's channels.
        ranking_map: (T, h, w) float32, the probability that a class is on top.
        conflicts: (h, w) bool, pixels of at least two instances.
        masks: (N, h, w) bool, or float in [0, 1], the instances in the map's frame.
        merge: of these instances.
    """

    instances: Instances
    rank_scores: Tensor
    thing_ids: Tuple[int, ...]
    ranking_map: Tensor
    conflicts: Tensor
    masks: Tensor
    merge: Merge
