"""From a config to a backbone of timm or torchvision."""

from typing import Sequence

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY

from ...layers import Norm
from ..build import refuse_families
from ..freezing import freeze_stages
from .network import LibraryBackbone, LibraryNetwork
from .norms import apply_norm
from .pixels import PixelFormat
from .timm_networks import build_timm_network
from .torchvision_networks import build_torchvision_network


@BACKBONE_REGISTRY.register()
def build_deeplab2_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> LibraryBackbone:
    """
    The network of timm that ``MODEL.DEEPLAB2.TIMM`` names, with features up to
    ``MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE``.

    Its weights are random: ImageNet's are ``MODEL.WEIGHTS timm://NAME``.

    Raises:
        ImportError: without timm.
        ValueError: for a name or options that timm has no network for.
    """
    node = cfg.MODEL.DEEPLAB2.TIMM
    network = build_timm_network(
        node.NAME,
        output_stride=cfg.MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE,
        in_channels=input_shape.channels,
        out_features=node.OUT_FEATURES,
        drop_path_keep_prob=node.DROP_PATH,
        use_checkpoint=node.CHECKPOINT,
        pyramid_channels=node.PYRAMID_CHANNELS,
    )
    return _finish(cfg, input_shape, network, node.OUT_FEATURES)


@BACKBONE_REGISTRY.register()
def build_deeplab2_torchvision_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> LibraryBackbone:
    """
    The network of torchvision that ``MODEL.DEEPLAB2.TORCHVISION`` names, with features up to
    ``MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE``.

    Its weights are random: ImageNet's are ``MODEL.WEIGHTS torchvision://NAME``.

    Raises:
        ValueError: for a name or options that torchvision has no network for.
    """
    node = cfg.MODEL.DEEPLAB2.TORCHVISION
    network = build_torchvision_network(
        node.NAME,
        output_stride=cfg.MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE,
        in_channels=input_shape.channels,
        out_features=node.OUT_FEATURES,
    )
    return _finish(cfg, input_shape, network, node.OUT_FEATURES)


def _finish(
    cfg: CfgNode, input_shape: ShapeSpec, network: LibraryNetwork, out_features: Sequence[str]
) -> LibraryBackbone:
    refuse_families(cfg, network.title)
    apply_norm(network.body, Norm.from_config(cfg))
    pixels = PixelFormat.from_config(cfg)
    backbone = LibraryBackbone(network, pixels=pixels, out_features=out_features)
    freeze_stages(backbone, cfg.MODEL.BACKBONE.FREEZE_AT, in_channels=input_shape.channels)
    return backbone
