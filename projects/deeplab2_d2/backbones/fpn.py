"""Our backbones under Detectron2's feature pyramid."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool

from .build import build_deeplab2_backbone


@BACKBONE_REGISTRY.register()
def build_deeplab2_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """
    A feature pyramid on the backbone that ``MODEL.DEEPLAB2.BACKBONE`` describes.

    ``MODEL.FPN`` is Detectron2's. Its strides must double from one feature to the next, so the
    output stride must be that of the last of ``MODEL.FPN.IN_FEATURES``.
    """
    return FPN(
        bottom_up=build_deeplab2_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
