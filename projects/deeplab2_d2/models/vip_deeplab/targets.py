"""What a pair of frames teaches: classes, centers, the next frame's offsets to them, and depth."""

from typing import Tuple

from detectron2.config import CfgNode

from ...data import Layer, NextFrameTargetGenerator, PanopticDatasetMapper
from ..panoptic_deeplab import RECORD as PANOPTIC_RECORD
from ..panoptic_deeplab import build_image_targets
from .config import has_depth

_NEXT_IMAGE = Layer("next_image", ("next_file_name", "file_name"), "image")
_DEPTH = Layer("depth", ("depth_file_name",), "depth")


def build_mapper(cfg: CfgNode, is_train: bool) -> PanopticDatasetMapper:
    """
    The mapper of a config.

    Samples have ``next_image``, of the frame itself where none follows; those of training also the
    targets of :class:`NextFrameTargetGenerator` and, unless its loss has no weight, ``depth``.
    """
    return PanopticDatasetMapper(
        cfg,
        is_train=is_train,
        build_targets=_build_generator if is_train else None,
        layers=(_NEXT_IMAGE, _DEPTH) if has_depth(cfg) else (_NEXT_IMAGE,),
    )


def _build_generator(cfg: CfgNode, ignore_label: int) -> NextFrameTargetGenerator:
    return NextFrameTargetGenerator(build_image_targets(cfg, ignore_label))


def outputs(cfg: CfgNode) -> Tuple[str, ...]:
    """What a config's model returns of a frame."""
    assert PANOPTIC_RECORD.outputs is not None
    depth = ("depth",) if has_depth(cfg) else ()
    return (*PANOPTIC_RECORD.outputs(cfg), "track", *depth)
