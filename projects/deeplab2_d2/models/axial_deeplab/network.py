"""Axial-DeepLab as a Detectron2 meta architecture."""

from typing import Any, Dict

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

from ..panoptic_deeplab import DeepLab2PanopticDeepLab

_PREFIX = "axial_"


@META_ARCH_REGISTRY.register()
class DeepLab2AxialDeepLab(DeepLab2PanopticDeepLab):
    """
    Panoptic-DeepLab on a backbone with axial attention, under the name of its paper.

    Reference: Axial-DeepLab (arXiv:2003.07853), Sec. 4: the heads are Panoptic-DeepLab's.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        """
        Raises:
            ValueError: for a backbone of ours without axial attention.
        """
        name = cfg.MODEL.DEEPLAB2.BACKBONE.NAME
        if cfg.MODEL.BACKBONE.NAME == "build_deeplab2_backbone" and not name.startswith(_PREFIX):
            raise ValueError(
                f"config key MODEL.DEEPLAB2.BACKBONE.NAME must start with {_PREFIX!r} for "
                f"DeepLab2AxialDeepLab, got {name!r}"
            )
        return super().from_config(cfg)
