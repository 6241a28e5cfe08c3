"""What a sample teaches: classes, a heatmap of centers, and offsets to them."""

from typing import Any, Dict, Tuple

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
        cfg, is_train=is_train, build_targets=_build_generator if is_train else None
    )


def _build_generator(cfg: CfgNode, ignore_label: int) -> PanopticTargetGenerator:
    has_instances = cfg.MODEL.DEEPLAB2.INSTANCE_ENABLED
    return PanopticTargetGenerator(**target_options(cfg, ignore_label), has_instances=has_instances)


def target_options(cfg: CfgNode, ignore_label: int) -> Dict[str, Any]:
    """The arguments of :class:`PanopticTargetGenerator` that a config decides."""
    node = cfg.INPUT.DEEPLAB2
    return {
        "ignore_label": ignore_label,
        "sigma": node.SIGMA,
        "small_instance_area": node.SMALL_INSTANCE_AREA,
        "small_instance_weight": node.SMALL_INSTANCE_WEIGHT,
    }


def outputs(cfg: CfgNode) -> Tuple[str, ...]:
    """What a config's model returns of an image: of a semantic model ``sem_seg`` alone."""
    wanted = outputs_from_config(cfg)
    if cfg.MODEL.DEEPLAB2.INSTANCE_ENABLED:
        return wanted
    return tuple(name for name in wanted if name == "sem_seg")
