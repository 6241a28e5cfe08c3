"""What a sample teaches: classes of pixels, and numbered things with their classes."""

from detectron2.config import CfgNode

from ...data import MaskTargetGenerator, PanopticDatasetMapper


def build_mapper(cfg: CfgNode, is_train: bool) -> PanopticDatasetMapper:
    """
    The mapper of a config.

    A training sample has, beside those of :class:`PanopticDatasetMapper`, the entries of
    :class:`ThingMaskTargets`.
    """
    return PanopticDatasetMapper(
        cfg, is_train=is_train, build_targets=_build_generator if is_train else None
    )


def _build_generator(cfg: CfgNode, ignore_label: int) -> MaskTargetGenerator:
    node = cfg.INPUT.DEEPLAB2
    return MaskTargetGenerator(
        ignore_label=ignore_label,
        max_things=node.MAX_THINGS,
        small_instance_area=node.SMALL_INSTANCE_AREA,
        small_instance_weight=node.SMALL_INSTANCE_WEIGHT,
    )
