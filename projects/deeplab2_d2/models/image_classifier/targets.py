"""What a sample is, and how predictions are scored."""

from typing import Any, Sequence, Tuple

from detectron2.config import CfgNode

from ...data.classification_mapper import ClassificationMapper
from ...evaluation import ImageClassificationEvaluator


def build_mapper(cfg: CfgNode, is_train: bool) -> ClassificationMapper:
    """The mapper of a config; its samples are those of :class:`DeepLab2ImageClassifier`."""
    node = cfg.INPUT.DEEPLAB2.CLASSIFICATION
    height, width = cfg.INPUT.CROP.SIZE
    return ClassificationMapper(
        is_train=is_train,
        size=(height, width),
        image_format=cfg.INPUT.FORMAT,
        area_range=tuple(node.AREA_RANGE),
        aspect_range=tuple(node.ASPECT_RANGE),
        flips=cfg.INPUT.RANDOM_FLIP == "horizontal",
        policy=node.COLOR_POLICY,
        crop_fraction=node.CROP_FRACTION,
    )


def build_evaluators(cfg: CfgNode, dataset_name: str, output_folder: str) -> Sequence[Any]:
    """Top-1 and top-5 accuracy."""
    return [ImageClassificationEvaluator(dataset_name)]


def outputs(cfg: CfgNode) -> Tuple[str, ...]:
    """What a config's model returns of an image."""
    return ("class_scores",)
