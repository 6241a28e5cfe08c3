"""Detections of Detectron2's own detectors, on its datasets and on panoptic ones."""

import importlib.util
from typing import Any, Mapping, Optional, Sequence

import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, LVISEvaluator
from detectron2.structures import Instances

from ..structures import DatasetClasses
from .instances import PanopticInstanceEvaluator
from .label_readers import reads_labels

# `evaluator_type` of datasets that Detectron2's evaluators of detections score.
DETECTION_TYPES = ("coco", "lvis")


class PanopticDetectionEvaluator(PanopticInstanceEvaluator):
    """
    AP of boxes and masks of a detector on a panoptic dataset.

    A detector's classes are places among the things, counted from 0, as datasets with instances
    (``<name>_instances``) number them.
    """

    def __init__(self, dataset_name: str, output_dir: Optional[str], *, tasks: Sequence[str]):
        super().__init__(dataset_name, output_dir, tasks=tasks)
        classes = DatasetClasses.from_metadata(MetadataCatalog.get(dataset_name))
        self._thing_ids = torch.tensor(classes.thing_ids, dtype=torch.int64)

    @reads_labels
    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """
        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``instances``, whose ``pred_classes`` are places among the things.

        Raises:
            ValueError: if a class is none of the things.
        """
        renamed = [{"instances": self._with_ids(output["instances"])} for output in outputs]
        super().process(inputs, renamed)

    def _with_ids(self, instances: Instances) -> Instances:
        places = instances.pred_classes.to("cpu", torch.int64)
        count = len(self._thing_ids)
        if places.numel() and not 0 <= int(places.min()) <= int(places.max()) < count:
            raise ValueError(
                f"pred_classes must be places among the {count} things of the dataset (config key "
                f"MODEL.ROI_HEADS.NUM_CLASSES {count}), got {int(places.max())}"
            )
        copy = Instances(instances.image_size, **instances.get_fields())
        copy.pred_classes = self._thing_ids[places]
        return copy


def build_detection_evaluator(
    dataset_name: str, output_dir: Optional[str], *, tasks: Sequence[str]
) -> DatasetEvaluator:
    """
    Detectron2's evaluator of a dataset whose ``evaluator_type`` is one of DETECTION_TYPES.

    Args:
        dataset_name: registered dataset.
        output_dir: where predictions are kept.
        tasks: of "bbox", "segm" and "keypoints".

    Raises:
        ImportError: if what scores LVIS is not installed.
    """
    if MetadataCatalog.get(dataset_name).evaluator_type == "lvis":
        if importlib.util.find_spec("lvis") is None:
            raise ImportError(
                f"dataset {dataset_name} (evaluator_type 'lvis') is scored by the package lvis, "
                "which is not installed: run `pip install lvis`",
                name="lvis",
            )
        return LVISEvaluator(dataset_name, tasks=tuple(tasks), output_dir=output_dir)
    # Detectron2's fast implementation is part of its compiled operators.
    is_compiled = importlib.util.find_spec("detectron2._C") is not None
    return COCOEvaluator(
        dataset_name, tasks=tuple(tasks), output_dir=output_dir, use_fast_impl=is_compiled
    )
