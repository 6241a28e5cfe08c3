"""What a sample teaches: classes, a heatmap of centers, and offsets to them."""

from typing import Tuple

from detectron2.config import CfgNode

from ...config import outputs_from_config
from ...data import PanopticDatasetMapper, PanopticTargetGenerator


def build_mapper(cfg: CfgNode, is_train: bool) -> PanopticDatasetMapper:
    """
    The mapper of a config.

    A training sample has, beside those of :class:`PanopticDatasetMapper`, the entries of
    :class:`PanopticTargets`.
    """
    return PanopticDatasetMapper(
        cfg, is_train=is_train, build_targets=build_image_targets if is_train else None
    )


def build_image_targets(cfg: CfgNode, ignore_label: int) -> PanopticTargetGenerator:
    """The targets of one image, as a config wants them."""
    node = cfg.INPUT.DEEPLAB2
    return PanopticTargetGenerator(
        ignore_label=ignore_label,
        sigma=node.SIGMA,
        small_instance_area=node.SMALL_INSTANCE_AREA,
        small_instance_weight=node.SMALL_INSTANCE_WEIGHT,
        has_instances=cfg.MODEL.DEEPLAB2.INSTANCE_ENABLED,
    )


def outputs(cfg: CfgNode) -> Tuple[str, ...]:
    """What a config's model returns of an image: of a semantic model ``sem_seg`` alone."""
    wanted = outputs_from_config(cfg)
    if cfg.MODEL.DEEPLAB2.INSTANCE_ENABLED:
        return wanted
    return tuple(name for name in wanted if name == "sem_seg")
