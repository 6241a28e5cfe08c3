"""Parameters and multiply-adds of networks, counted without computing them."""

from typing import Any, Callable, List, Tuple

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deeplab2_d2.backbones import build_deeplab2_backbone
from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.heads import DecoderSpec
from deeplab2_d2.layers import Norm
from deeplab2_d2.models.deeplab import DeepLab2DeepLabV3Plus
from deeplab2_d2.models.deeplab.decoders import ConcatenatedDecoder
from deeplab2_d2.models.max_deeplab import MaXDeepLabHead
from deeplab2_d2.models.panoptic_deeplab import DeepLab2PanopticDeepLab

_PREFIX = "MODEL.DEEPLAB2.BACKBONE."
_ATROUS_RATES = {8: [12, 24, 36], 16: [6, 12, 18], 32: [3, 6, 9]}


def backbone_config(name: str, output_stride: int = 16, **values: Any) -> CfgNode:
    """A config with the backbone's keys set, ``__`` for a dot, and rates for its stride."""
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    options: List[Any] = [_PREFIX + "NAME", name, _PREFIX + "OUTPUT_STRIDE", output_stride]
    for key, value in values.items():
        options += [_PREFIX + key.replace("__", "."), value]
    cfg.merge_from_list(options)
    for node in (cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER, cfg.MODEL.DEEPLAB2.INSTANCE_DECODER):
        node.ATROUS_RATES = _ATROUS_RATES[output_stride]
        node.ASPP = "global"
    return cfg


def backbone_costs(cfg: CfgNode, size: Tuple[int, int]) -> Tuple[int, int]:
    """(parameters, multiply-adds) of the backbone for one image."""
    return _costs(lambda: [build_deeplab2_backbone(cfg, ShapeSpec(channels=3))], size)


def panoptic_deeplab_costs(cfg: CfgNode, size: Tuple[int, int]) -> Tuple[int, int]:
    """The same with Panoptic-DeepLab's heads."""

    def build() -> List[nn.Module]:
        backbone = build_deeplab2_backbone(cfg, ShapeSpec(channels=3))
        return [backbone, DeepLab2PanopticDeepLab.build_head(cfg, backbone.output_shape())]

    return _costs(build, size)


def deeplab_v3_plus_costs(cfg: CfgNode, size: Tuple[int, int]) -> Tuple[int, int]:
    """The same with DeepLab v3+'s decoder."""

    def build() -> List[nn.Module]:
        backbone = build_deeplab2_backbone(cfg, ShapeSpec(channels=3))
        shape, norm = backbone.output_shape(), Norm.from_config(cfg)
        return [backbone, DeepLab2DeepLabV3Plus.build_head(cfg, shape, norm)]

    return _costs(build, size)


def hrnet_costs(cfg: CfgNode, size: Tuple[int, int]) -> Tuple[int, int]:
    """The same with HRNet's own head."""

    def build() -> List[nn.Module]:
        backbone = build_deeplab2_backbone(cfg, ShapeSpec(channels=3))
        decoder = ConcatenatedDecoder(
            input_shape=backbone.output_shape(),
            decoder=DecoderSpec("backbone_output", (), channels=0, aspp_channels=0),
            num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            norm=Norm.from_config(cfg),
        )
        return [backbone, decoder]

    return _costs(build, size)


def max_deeplab_costs(cfg: CfgNode, size: Tuple[int, int]) -> Tuple[int, int]:
    """The same with MaX-DeepLab's heads; the auxiliary semantic one is in no paper's count."""
    cfg.MODEL.DEEPLAB2.MAX_DEEPLAB.AUXILIARY_SEMANTIC = False

    def build() -> List[nn.Module]:
        backbone = build_deeplab2_backbone(cfg, ShapeSpec(channels=3))
        return [backbone, _max_deeplab_head(cfg, backbone)]

    return _costs(build, size)


def _max_deeplab_head(cfg: CfgNode, backbone: Any) -> MaXDeepLabHead:
    memory_shape = backbone.return_memory()
    return MaXDeepLabHead(cfg, backbone.output_shape(), memory_shape, num_classes=133)


def _costs(build: Callable[[], List[nn.Module]], size: Tuple[int, int]) -> Tuple[int, int]:
    with torch.device("meta"):
        modules = [module.eval().requires_grad_(False) for module in build()]
        features: Any = torch.zeros(1, 3, *size)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            for module in modules:
                features = module(features)
    parameters = sum(p.numel() for module in modules for p in module.parameters())
    return parameters, counter.get_total_flops() // 2
