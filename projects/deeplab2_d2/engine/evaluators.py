"""Which evaluators a dataset and a model's outputs call for."""

import os
from typing import List, Optional, Tuple

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    GeneralizedRCNN,
    PanopticFPN,
    RetinaNet,
    SemanticSegmentor,
)
from torch import nn

from ..config import outputs_from_config
from ..data.metadata import SEMANTIC_TYPES
from ..evaluation import (
    DETECTION_TYPES,
    CityscapesInstanceSubmission,
    CityscapesMaskEvaluator,
    CityscapesSemanticEvaluator,
    CityscapesSemanticSubmission,
    OnTheFlyPanopticEvaluator,
    PanopticDetectionEvaluator,
    PanopticInstanceEvaluator,
    PanopticQualityEvaluator,
    PanopticSubmission,
    SemanticEvaluator,
    build_detection_evaluator,
    build_video_evaluators,
)
from ..records import find_record
from ..structures import DatasetClasses
from ..video import TrackedSegmenter
from .config_error import ConfigError

# Those of Mask2Former's datasets among them.
PANOPTIC_TYPES = (
    "coco_panoptic_seg",
    "cityscapes_panoptic_seg",
    "ade20k_panoptic_seg",
    "mapillary_vistas_panoptic_seg",
)
# Of Detectron2's own meta architectures, a subclass before its base.
_DETECTRON2_OUTPUTS = {
    PanopticFPN: ("sem_seg", "panoptic_seg", "instances"),
    SemanticSegmentor: ("sem_seg",),
    GeneralizedRCNN: ("instances",),
    RetinaNet: ("instances",),
}


def build_evaluators(
    cfg: CfgNode, dataset_name: str, output_folder: Optional[str] = None
) -> DatasetEvaluators:
    """
    Every evaluator that fits the dataset's ``evaluator_type`` and what the model returns; for
    ``track`` and ``depth``, see :func:`build_video_evaluators`.

    For a dataset without ground truth (``has_ground_truth`` False in its metadata) the predictions
    are written in its server's formats instead.

    Args:
        cfg: what the model returns, its record says; of a model without one, it is what
            MODEL.DEEPLAB2.POSTPROCESSING asks for.
        dataset_name: registered dataset.
        output_folder: default OUTPUT_DIR/inference; of several datasets of DATASETS.TEST, a folder
            in it for each.

    Raises:
        ValueError: if the dataset's ``evaluator_type`` is none that is known here, and the model's
            record has no evaluators of its own.
    """
    output_folder = output_folder or _output_folder(cfg, dataset_name)
    record = find_record(cfg)
    others: List[DatasetEvaluator] = []
    if record is not None and record.build_evaluators is not None:
        others += record.build_evaluators(cfg, dataset_name, output_folder)
    outputs = model_outputs(cfg)
    tracked = ("track",) if cfg.TEST.DEEPLAB2.TRACKER != "none" else ()
    video = build_video_evaluators(dataset_name, (*outputs, *tracked), output_folder)
    others += video
    metadata = MetadataCatalog.get(dataset_name)
    kind = metadata.get("evaluator_type")
    if kind in DETECTION_TYPES and "instances" in outputs:
        tasks = _detection_tasks(cfg)
        others.append(build_detection_evaluator(dataset_name, output_folder, tasks=tasks))
    if kind not in PANOPTIC_TYPES + SEMANTIC_TYPES:
        if others:
            return DatasetEvaluators(others)
        raise _no_evaluator(dataset_name, outputs)
    is_panoptic = kind in PANOPTIC_TYPES
    returned = [
        "sem_seg" in outputs,
        is_panoptic and "panoptic_seg" in outputs,
        is_panoptic and "instances" in outputs,
    ]
    is_cityscapes = kind.startswith("cityscapes")
    if not metadata.get("has_ground_truth", True):
        submissions: List[DatasetEvaluator] = []
        # Servers of videos take no results of single frames.
        if not video:
            submissions += _build_submissions(dataset_name, output_folder, returned, is_cityscapes)
        return DatasetEvaluators(submissions + others)
    evaluators: List[DatasetEvaluator] = []
    if returned[0]:
        semantic = CityscapesSemanticEvaluator if is_cityscapes else SemanticEvaluator
        evaluators.append(semantic(dataset_name))
    if returned[1] and cfg.TEST.DEEPLAB2.PQ_ON_THE_FLY:
        evaluators.append(OnTheFlyPanopticEvaluator(dataset_name))
    elif returned[1]:
        evaluators.append(PanopticQualityEvaluator(dataset_name, output_folder))
    if returned[2]:
        evaluators.append(_instance_evaluator(cfg, dataset_name, output_folder))
    return DatasetEvaluators(evaluators + others)


def _output_folder(cfg: CfgNode, dataset_name: str) -> str:
    folder = os.path.join(cfg.OUTPUT_DIR, "inference")
    # The files of all datasets have the same names.
    return os.path.join(folder, dataset_name) if len(cfg.DATASETS.TEST) > 1 else folder


def _instance_evaluator(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    """AP on a panoptic dataset."""
    if find_record(cfg) is None and model_outputs(cfg) == ("instances",):
        tasks = _detection_tasks(cfg)
        return PanopticDetectionEvaluator(dataset_name, output_folder, tasks=tasks)
    if MetadataCatalog.get(dataset_name).evaluator_type.startswith("cityscapes"):
        return CityscapesMaskEvaluator(dataset_name)
    return PanopticInstanceEvaluator(dataset_name, output_folder)


def add_tracker(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """
    A model with the tracker that TEST.DEEPLAB2.TRACKER asks for.

    Raises:
        ConfigError: if the model has tracks already, or no panoptic output to track.
    """
    tracker = cfg.TEST.DEEPLAB2.TRACKER
    if tracker == "none":
        return model
    outputs = model_outputs(cfg)
    if "track" in outputs or "panoptic_seg" not in outputs:
        raise ConfigError(
            "config key TEST.DEEPLAB2.TRACKER must be 'none' for a model that returns "
            f"{', '.join(outputs)}, got {tracker!r}"
        )
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
    divisor = DatasetClasses.from_metadata(metadata).label_divisor
    return TrackedSegmenter(model, label_divisor=divisor, use_flow=tracker == "flow")


def model_outputs(cfg: CfgNode) -> Tuple[str, ...]:
    """What a config's model returns of an image: by its record, else what the config asks for."""
    record = find_record(cfg)
    if record is not None and record.outputs is not None:
        return record.outputs(cfg)
    kind = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    for base, outputs in _DETECTRON2_OUTPUTS.items():
        if isinstance(kind, type) and issubclass(kind, base):
            return outputs
    return outputs_from_config(cfg)


def check_evaluator_type(cfg: CfgNode, dataset_name: str) -> None:
    """
    Refuse a dataset that :func:`build_evaluators` will have nothing for, before it is read.

    Raises:
        ValueError: naming the dataset and its ``evaluator_type``.
    """
    record, outputs = find_record(cfg), model_outputs(cfg)
    has_own = record is not None and record.build_evaluators is not None
    is_video = "track" in outputs or cfg.TEST.DEEPLAB2.TRACKER != "none"
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    is_known = kind in PANOPTIC_TYPES + SEMANTIC_TYPES
    is_known = is_known or (kind in DETECTION_TYPES and "instances" in outputs)
    if not (has_own or is_video or is_known):
        raise _no_evaluator(dataset_name, outputs)


def _no_evaluator(dataset_name: str, outputs: Tuple[str, ...]) -> ValueError:
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    known: Tuple[str, ...] = PANOPTIC_TYPES + SEMANTIC_TYPES
    known += DETECTION_TYPES if "instances" in outputs else ()
    return ValueError(
        f"dataset {dataset_name!r} must have an evaluator_type of {', '.join(known)} in its "
        f"metadata for a model that returns {', '.join(outputs)}, got {kind!r}"
    )


def _detection_tasks(cfg: CfgNode) -> Tuple[str, ...]:
    """What COCO scores of a model's instances."""
    has_masks = find_record(cfg) is not None or cfg.MODEL.MASK_ON
    tasks = ("bbox", "segm") if has_masks else ("bbox",)
    return (*tasks, "keypoints") if cfg.MODEL.KEYPOINT_ON else tasks


def _build_submissions(
    dataset_name: str, output_folder: str, returned: List[bool], is_cityscapes: bool
) -> List[DatasetEvaluator]:
    """Writers of semantic, panoptic and instance results, as far as the server takes them."""
    submissions: List[DatasetEvaluator] = []
    if returned[0] and is_cityscapes:
        folder = os.path.join(output_folder, f"{dataset_name}_semantic")
        submissions.append(CityscapesSemanticSubmission(dataset_name, folder))
    if returned[1]:
        name = f"panoptic_{_split(dataset_name)}_deeplab2_results"
        submissions.append(PanopticSubmission(dataset_name, output_folder, name=name))
    if returned[2] and is_cityscapes:
        folder = os.path.join(output_folder, f"{dataset_name}_instance")
        submissions.append(CityscapesInstanceSubmission(dataset_name, folder))
    return submissions


def _split(dataset_name: str) -> str:
    """COCO's server wants ``test-dev2017``; elsewhere the dataset's own name serves."""
    return "test-dev2017" if dataset_name == "coco_2017_test-dev_panoptic" else dataset_name
