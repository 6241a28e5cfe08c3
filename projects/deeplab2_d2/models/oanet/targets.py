"""What a sample teaches: instances, which may overlap, and the panoptic classes of every pixel."""

from detectron2.config import CfgNode

from ...data import InstancePanopticMapper


def build_mapper(cfg: CfgNode, is_train: bool) -> InstancePanopticMapper:
    """The mapper of a config; its samples are those of :class:`DeepLab2OANet`."""
    return InstancePanopticMapper(cfg, is_train)
