"""Which evaluators a dataset and a model's outputs call for."""

import os
from typing import List, Optional

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from ..evaluation import (
    CityscapesMaskEvaluator,
    CityscapesSemanticEvaluator,
    PanopticInstanceEvaluator,
    PanopticQualityEvaluator,
    SemanticEvaluator,
)

PANOPTIC_TYPES = ("coco_panoptic_seg", "ade20k_panoptic_seg", "mapillary_vistas_panoptic_seg")


def build_evaluators(
    cfg: CfgNode, dataset_name: str, output_folder: Optional[str] = None
) -> DatasetEvaluators:
    """
    Every evaluator that fits the dataset's ``evaluator_type`` and what the model returns.

    Args:
        cfg: MODEL.DEEPLAB2.INSTANCE_ENABLED and MODEL.DEEPLAB2.POSTPROCESSING say what it returns.
        dataset_name: registered dataset.
        output_folder: default OUTPUT_DIR/inference.

    Raises:
        ValueError: if the dataset's ``evaluator_type`` is none that is known here.
    """
    output_folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    outputs = cfg.MODEL.DEEPLAB2.POSTPROCESSING
    has_instances = cfg.MODEL.DEEPLAB2.INSTANCE_ENABLED
    is_cityscapes = kind in ("cityscapes_panoptic_seg", "cityscapes_sem_seg")
    is_panoptic = kind in PANOPTIC_TYPES or kind == "cityscapes_panoptic_seg"
    if not (is_panoptic or kind in ("sem_seg", "cityscapes_sem_seg")):
        raise ValueError(
            f"dataset {dataset_name!r} must have an evaluator_type of panoptic or semantic "
            f"segmentation in its metadata, got {kind!r}"
        )
    evaluators: List[DatasetEvaluator] = []
    if outputs.SEMANTIC_OUTPUT:
        semantic = CityscapesSemanticEvaluator if is_cityscapes else SemanticEvaluator
        evaluators.append(semantic(dataset_name))
    if is_panoptic and has_instances and outputs.PANOPTIC_OUTPUT:
        evaluators.append(PanopticQualityEvaluator(dataset_name, output_folder))
    if is_panoptic and has_instances and outputs.INSTANCE_OUTPUT:
        if is_cityscapes:
            evaluators.append(CityscapesMaskEvaluator(dataset_name))
        else:
            evaluators.append(PanopticInstanceEvaluator(dataset_name, output_folder))
    return DatasetEvaluators(evaluators)
