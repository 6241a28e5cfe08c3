"""The networks of Panoptic-DeepLab's Table 5 that are not Xception's, and those they come from."""

from typing import Callable, List

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from network_costs import (
    backbone_config,
    deeplab_v3_plus_costs,
    hrnet_costs,
    panoptic_deeplab_costs,
)
from paper_counts import count_hrnet_first_stage, count_pooling
from paper_networks import PaperNetwork, leaf_config

from deeplab2_d2.backbones import build_deeplab2_backbone

_VISTAS = "MapillaryVistas-PanopticSegmentation"
_AUTO, _HRNET, _PANOPTIC = "arXiv:1901.02985", "arXiv:1908.07919", "arXiv:1911.10194"


def _auto_deeplab(name: str) -> Callable[[], CfgNode]:
    def config() -> CfgNode:
        cfg = backbone_config(name, 32)
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 19
        node = cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER
        node.FEATURE, node.LOW_LEVEL, node.CONV_TYPE = (
            "backbone_output",
            [["res2", 48]],
            "standard_conv",
        )
        return cfg

    return config


# DeepLab v3+'s decoder with standard convolutions.
AUTO_DEEPLAB: List[PaperNetwork] = [
    PaperNetwork(
        f"Auto-DeepLab-{size.upper()}, 19 classes",
        _auto_deeplab(f"auto_deeplab_{size}"),
        deeplab_v3_plus_costs,
        (1025, 2049),
        _AUTO,
        parameters,
        multiply_adds,
    )
    for size, parameters, multiply_adds in (
        ("s", 10.15, 333.25),
        ("m", 21.62, 460.93),
        ("l", 44.42, 695.03),
    )
]


def _hrnet() -> CfgNode:
    cfg = backbone_config("hrnet_w48", 32, HRNET__CONCATENATE=True)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 19
    return cfg


def _work_out_hrnet(network: PaperNetwork) -> int:
    return network.count()[1] - count_hrnet_first_stage(network.size)


HRNET = PaperNetwork(
    "HRNet-W48, its own head, 19 classes",
    _hrnet,
    hrnet_costs,
    (1024, 2048),
    _HRNET,
    65.9,
    696.2,
    _work_out_hrnet,
)


def _work_out_pooling(network: PaperNetwork) -> int:
    """With the products of one ASPP's mean over windows of a training crop's size."""
    cfg = network.config()
    with torch.device("meta"):
        backbone = build_deeplab2_backbone(cfg, ShapeSpec(channels=3))
    shape = backbone.output_shape()["backbone_output"]
    window = (cfg.INPUT.CROP.SIZE[0] - 1) // shape.stride + 1
    return network.count()[1] + shape.channels * count_pooling(network.size, shape.stride, window)


VISTAS: List[PaperNetwork] = [
    PaperNetwork(
        f"Panoptic-DeepLab, {name}, 65 classes",
        leaf_config(f"{_VISTAS}/panoptic_deeplab_{leaf}_poly_150k_bs64_crop_1025_1025.yaml"),
        panoptic_deeplab_costs,
        (2177, 2177),
        f"{_PANOPTIC}, Tab. 5",
        parameters,
        multiply_adds,
        _work_out_pooling if name.startswith("Auto") else None,
    )
    for name, leaf, parameters, multiply_adds in (
        ("HRNet-W48", "HRNet_W48_os32", 71.66, 2304.87),
        ("HRNet-W48+", "HRNet_W48_plus_os32", 88.87, 2208.04),
        ("HRNet-W48+ (Atrous)", "HRNet_W48_plus_atrous_os16", 88.87, 2972.02),
        ("HRNet-Wider+", "HRNet_Wider_plus_os32", 60.05, 1315.70),
        ("HRNet-Wider+ (Atrous)", "HRNet_Wider_plus_atrous_os16", 60.05, 1711.69),
        ("Auto-DeepLab-L+", "AutoDeepLab_L_plus_os16", 41.54, 1493.78),
        ("Auto-DeepLab-XL+", "AutoDeepLab_XL_plus_os16", 71.98, 2378.17),
        ("Auto-DeepLab-XL++", "AutoDeepLab_XL_plus_plus_os16", 72.16, 2386.81),
    )
]
