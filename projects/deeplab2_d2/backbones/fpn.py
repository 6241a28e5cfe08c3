"""Our backbones, and other libraries', under Detectron2's feature pyramid."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool

from .build import build_deeplab2_backbone
from .endpoints import EndpointBackbone
from .library import build_deeplab2_timm_backbone, build_deeplab2_torchvision_backbone


@BACKBONE_REGISTRY.register()
def build_deeplab2_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """
    A feature pyramid on the backbone that ``MODEL.DEEPLAB2.BACKBONE`` describes.

    ``MODEL.FPN`` is Detectron2's. Its strides must double from one feature to the next, so the
    output stride must be that of the last of ``MODEL.FPN.IN_FEATURES``.
    """
    return _pyramid(cfg, build_deeplab2_backbone(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_deeplab2_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """The same on the network of timm that ``MODEL.DEEPLAB2.TIMM`` names."""
    return _pyramid(cfg, build_deeplab2_timm_backbone(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_deeplab2_torchvision_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """The same on the network of torchvision that ``MODEL.DEEPLAB2.TORCHVISION`` names."""
    return _pyramid(cfg, build_deeplab2_torchvision_backbone(cfg, input_shape))


def _pyramid(cfg: CfgNode, bottom_up: EndpointBackbone) -> FPN:
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
