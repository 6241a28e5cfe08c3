"""What a sample teaches: instances, which may overlap, and the panoptic classes of every pixel."""

from typing import Any, Mapping, Tuple

from detectron2.config import CfgNode
from detectron2.structures import Instances

from ...config import outputs_from_config
from ...data import InstancePanopticMapper

Sample = Mapping[str, Any]


def build_mapper(cfg: CfgNode, is_train: bool) -> InstancePanopticMapper:
    """The mapper of a config; its samples are those of :class:`DeepLab2OANet`."""
    return InstancePanopticMapper(cfg, is_train)


def outputs(cfg: CfgNode) -> Tuple[str, ...]:
    """What a config's model returns; logits only if the stuff branch has all classes."""
    wanted = outputs_from_config(cfg)
    if cfg.MODEL.DEEPLAB2.OANET.SEMANTIC_CLASSES == "all":
        return wanted
    return tuple(name for name in wanted if name != "sem_seg")


def check_sample(sample: Sample) -> None:
    """
    Raises:
        ValueError: if a training sample has no instances or no ``sem_seg``, or their sizes are not
            the image's.
    """
    name, size = sample.get("file_name", "no file_name"), tuple(sample["image"].shape[-2:])
    for key in ("instances", "sem_seg"):
        if key not in sample:
            raise ValueError(
                f"{name}: a training sample must have {key!r}: the dataset must have instances and "
                f"panoptic maps of the same images, got {sorted(sample)}"
            )
    truth: Instances = sample["instances"]
    sizes = {"instances": tuple(truth.image_size), "sem_seg": tuple(sample["sem_seg"].shape)}
    if set(sizes.values()) != {size}:
        raise ValueError(f"{name}: sizes must be the image's {size}, got {sizes}")
