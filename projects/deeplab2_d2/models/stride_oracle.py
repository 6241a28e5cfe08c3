"""Ground truth seen through a network's output stride, and what all such oracles share."""

from abc import ABC, abstractmethod
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..data.segment_map import SegmentTable, build_segment_map
from ..postprocessing import Frames
from ..structures import DatasetClasses, read_panoptic_png
from .image_batch import next_grid_size

# Large against the weight 1 / stride that a neighbor has half way between two pixels.
LOGIT = 10.0


class StrideOracle(ABC):
    """
    Ground truth seen through the network's output stride: the bound of a representation.

    The annotation is sampled at every ``stride``-th pixel, made into perfect predictions there
    (:meth:`segment`), and post-processed as a model's outputs are.
    """

    def __init__(self, classes: DatasetClasses, *, stride: int = 4):
        """
        Args:
            classes: of the dataset.
            stride: of the heads' maps, in pixels of the image.
        """
        self.classes = classes
        self.stride = stride

    def __call__(self, inputs: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
        """
        Args:
            inputs: Detectron2 dataset dicts with ``pan_seg_file_name`` and ``segments_info``.

        Returns:
            For each ``panoptic_seg``: the (H, W) int32 panoptic map (-1 is void), and None.
        """
        return [{"panoptic_seg": (self._predict(record), None)} for record in inputs]

    def _predict(self, record: Mapping[str, Any]) -> Tensor:
        ids = read_panoptic_png(record["pan_seg_file_name"])
        segment_map, segments = build_segment_map(
            ids,
            record["segments_info"],
            num_classes=self.classes.num_classes,
            thing_ids=set(self.classes.thing_ids),
            label_divisor=self.classes.label_divisor,
            source=record["pan_seg_file_name"],
        )
        image_size = (int(ids.shape[0]), int(ids.shape[1]))
        # As a network pads.
        input_size = next_grid_size(image_size, self.stride)
        padding = [(0, padded - side) for padded, side in zip(input_size, image_size)]
        small_map = np.pad(segment_map, padding)[:: self.stride, :: self.stride]
        return self.segment(small_map, segments, Frames(input_size, image_size, image_size))

    @abstractmethod
    def segment(self, small_map: np.ndarray, segments: SegmentTable, frames: Frames) -> Tensor:
        """
        Args:
            small_map: (h, w) segment map at the heads' resolution.
            segments: its table.
            frames: of the image.

        Returns:
            (H, W) int32, panoptic map of the image.
        """


def batch_of_one(maps: np.ndarray) -> Tensor:
    """(...) to (1, ...) float32."""
    return torch.from_numpy(np.ascontiguousarray(maps[None], dtype=np.float32))
