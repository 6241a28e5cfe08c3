"""What a sample teaches: the class of every pixel."""

from typing import Tuple

from detectron2.config import CfgNode

from ...data import PanopticDatasetMapper, PanopticTargetGenerator


def build_mapper(cfg: CfgNode, is_train: bool) -> PanopticDatasetMapper:
    """
    The mapper of a config.

    A training sample has, beside those of :class:`PanopticDatasetMapper`, ``sem_seg``, (H, W)
    int64.
    """
    return PanopticDatasetMapper(
        cfg, is_train=is_train, build_targets=build_semantic_targets if is_train else None
    )


def build_semantic_targets(cfg: CfgNode, ignore_label: int) -> PanopticTargetGenerator:
    """The targets of one image; nothing of the config changes them."""
    return PanopticTargetGenerator(ignore_label=ignore_label, has_instances=False)


def outputs(cfg: CfgNode) -> Tuple[str, ...]:
    """What a config's model returns of an image: ``sem_seg`` alone."""
    return ("sem_seg",) if cfg.MODEL.DEEPLAB2.POSTPROCESSING.SEMANTIC_OUTPUT else ()
