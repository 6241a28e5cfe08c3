"""Predictors without a network, to compare a model's scores with."""

from collections import Counter
from typing import Any, Collection, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import torch
from detectron2.structures import BitMasks, Instances
from torch import Tensor

from ..structures import read_panoptic_png
from .ground_truth import decode_semantic_map

Sample = Mapping[str, Any]
Output = Dict[str, Any]


class GroundTruthPredictor:
    """
    Predicts the annotation itself: what an evaluator reports for it is its upper bound.

    Called as a Detectron2 model is, with dicts that have ``pan_seg_file_name`` and
    ``segments_info``: give the dataset's own dicts where a mapper drops them.
    """

    def __init__(self, *, num_classes: int, thing_ids: Collection[int]):
        """
        Args:
            num_classes: length of the first axis of ``sem_seg``.
            thing_ids: contiguous ids of the classes that have instances.
        """
        self._num_classes = num_classes
        self._thing_ids = frozenset(thing_ids)

    def __call__(self, inputs: Sequence[Sample]) -> List[Output]:
        """
        Returns:
            For each sample ``sem_seg`` ((C, H, W) float32; void pixels are 0 for all classes, so
            class 0), ``panoptic_seg`` with crowd segments, and ``instances`` without them.
        """
        return [self._predict(sample) for sample in inputs]

    def _predict(self, sample: Sample) -> Output:
        segments = [
            {
                "id": segment["id"],
                "category_id": segment["category_id"],
                "isthing": segment["category_id"] in self._thing_ids,
            }
            for segment in sample["segments_info"]
        ]
        ids = read_panoptic_png(sample["pan_seg_file_name"])
        semantic = decode_semantic_map(sample, ignore_label=-1, ignore_crowd=False)
        classes = np.arange(self._num_classes)[:, None, None]
        single = [
            segment
            for segment in sample["segments_info"]
            if segment["category_id"] in self._thing_ids and not segment.get("iscrowd", 0)
        ]
        return {
            "sem_seg": torch.from_numpy((semantic == classes).astype(np.float32)),
            "panoptic_seg": (torch.from_numpy(ids), segments),
            "instances": _make_instances(torch.from_numpy(ids), single),
        }


def _make_instances(ids: Tensor, segments: Sequence[Mapping[str, Any]]) -> Instances:
    values = torch.tensor([segment["id"] for segment in segments], dtype=ids.dtype)
    masks = ids[None] == values[:, None, None]
    instances = Instances(tuple(ids.shape))
    instances.pred_masks = masks
    instances.pred_boxes = BitMasks(masks).get_bounding_boxes()
    instances.scores = torch.ones(len(segments))
    instances.pred_classes = torch.tensor(
        [segment["category_id"] for segment in segments], dtype=torch.int64
    )
    return instances


class ConstantPredictor:
    """Predicts one segment of one stuff class, whatever the image: the trivial predictor."""

    def __init__(self, category_id: int):
        """
        Args:
            category_id: contiguous id of a stuff class.
        """
        self._category_id = category_id

    @classmethod
    def for_dataset(
        cls, records: Sequence[Sample], *, thing_ids: Collection[int]
    ) -> "ConstantPredictor":
        """
        The predictor of the stuff class that covers most pixels of a dataset.

        Args:
            records: Detectron2 dataset dicts. Ties go to the lowest class id.
            thing_ids: contiguous ids of the classes that are not stuff.

        Raises:
            ValueError: if the dataset has no stuff.
        """
        areas: Counter = Counter()
        for record in records:
            values, counts = np.unique(
                read_panoptic_png(record["pan_seg_file_name"]), return_counts=True
            )
            area_of = dict(zip(values.tolist(), counts.tolist()))
            for segment in record["segments_info"]:
                if segment["category_id"] not in thing_ids:
                    areas[segment["category_id"]] += area_of.get(segment["id"], 0)
        if not areas:
            raise ValueError("the dataset has no stuff segments, so no commonest stuff class")
        return cls(min(areas, key=lambda category_id: (-areas[category_id], category_id)))

    def __call__(self, inputs: Sequence[Sample]) -> List[Output]:
        """
        Args:
            inputs: dicts with ``height`` and ``width``, or with ``pan_seg_file_name``.

        Returns:
            For each sample ``panoptic_seg``.
        """
        segments = [{"id": 1, "category_id": self._category_id, "isthing": False}]
        return [
            {"panoptic_seg": (torch.ones(_size_of(sample), dtype=torch.int32), list(segments))}
            for sample in inputs
        ]


def _size_of(sample: Sample) -> Tuple[int, int]:
    if "height" in sample:
        return sample["height"], sample["width"]
    height, width = read_panoptic_png(sample["pan_seg_file_name"]).shape
    return height, width
