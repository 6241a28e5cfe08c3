"""What a sample teaches: instances, which may overlap, and the panoptic classes of every pixel."""

from typing import Tuple

from detectron2.config import CfgNode

from ...config import outputs_from_config
from ...data import InstancePanopticMapper


def build_mapper(cfg: CfgNode, is_train: bool) -> InstancePanopticMapper:
    """The mapper of a config; its samples are those of :class:`DeepLab2OANet`."""
    return InstancePanopticMapper(cfg, is_train)


def outputs(cfg: CfgNode) -> Tuple[str, ...]:
    """What a config's model returns; logits only if the stuff branch has all classes."""
    wanted = outputs_from_config(cfg)
    if cfg.MODEL.DEEPLAB2.OANET.SEMANTIC_CLASSES == "all":
        return wanted
    return tuple(name for name in wanted if name != "sem_seg")
