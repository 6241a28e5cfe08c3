"""What a pair of frames teaches: classes, centers, and where the centers were before."""

from typing import Tuple

from detectron2.config import CfgNode

from ...data import Layer, PanopticDatasetMapper, PreviousFrameTargetGenerator
from ..panoptic_deeplab import RECORD as PANOPTIC_RECORD
from ..panoptic_deeplab import build_image_targets

_LAYERS = (Layer("previous_image", ("previous_file_name", "file_name"), "image"),)


def build_mapper(cfg: CfgNode, is_train: bool) -> PanopticDatasetMapper:
    """
    The mapper of a config.

    Samples have ``previous_image``, of the frame itself where none comes before; those of training
    the targets of :class:`PreviousFrameTargetGenerator`.
    """
    return PanopticDatasetMapper(
        cfg,
        is_train=is_train,
        build_targets=_build_generator if is_train else None,
        layers=_LAYERS,
    )


def _build_generator(cfg: CfgNode, ignore_label: int) -> PreviousFrameTargetGenerator:
    return PreviousFrameTargetGenerator(build_image_targets(cfg, ignore_label))


def outputs(cfg: CfgNode) -> Tuple[str, ...]:
    """What a config's model returns of a frame."""
    assert PANOPTIC_RECORD.outputs is not None
    return (*PANOPTIC_RECORD.outputs(cfg), "track")
