"""The networks of the table, and what configs make of them, small enough to be computed."""

from typing import Any, Dict, Tuple

import torch

from deeplab2_d2.backbones import (
    CONVNEXTS,
    MOATS,
    MOBILE_NETWORKS,
    RESIDUAL_NETWORKS,
    backbone_names,
    build_backbone_by_name,
)
from deeplab2_d2.layers import ConvNeXtBlock, Norm

# Rows that differ by name, width or number of blocks alone are one network here, where all are
# narrow and of few blocks.
ALIASES = (
    *("swidernet", "axial_resnet_s", "axial_deeplab_s"),
    *("xception_65", "resnet_v1_101_beta"),
    # Below with its branches concatenated, too.
    "hrnet_w18",
    *("hrnet_w32", "hrnet_w48", "hrnet_w18_plus", "hrnet_w32_plus", "hrnet_w48_plus"),
    *("auto_deeplab_m", "auto_deeplab_l", "auto_deeplab_xl"),
    *list(CONVNEXTS)[1:],
    *list(MOATS)[1:],
)
# What configs make of rows: a name for the tests, the row, and its options.
_VARIANTS: Dict[str, Tuple[str, Dict[str, Any]]] = {
    "swidernet_sac": ("swidernet", {"SAC_BEYOND_STRIDE": 32}),
    "swidernet_se": ("swidernet", {"SQUEEZE_AND_EXCITE": True}),
    "resnet50_sac": ("resnet50", {"SAC_BEYOND_STRIDE": 8, "ACTIVATION": "gelu"}),
    "resnet50_global": ("resnet50", {"ATTENTION__GLOBAL": [16, 1]}),
    "resnet50_with_all": (
        "resnet50",
        {
            "SAC_BEYOND_STRIDE": 8,
            "SQUEEZE_AND_EXCITE": True,
            "ACTIVATION": "gelu",
            "ATTENTION__GLOBAL": [16, 1],
        },
    ),
    "axial_resnet_l_local": ("axial_resnet_l", {"ATTENTION__SPAN": 5}),
    "moat0_in_windows": ("moat0", {"WINDOWS": [[2, 3], [2, 2]], "POSITIONS": False}),
    "mobilenet_v3_large_reduced": ("mobilenet_v3_large", {"REDUCED_LAST_BLOCK": True}),
    "hrnet_w18_concatenated": ("hrnet_w18", {"CONCATENATE": True}),
    "auto_deeplab_s_short": (
        "auto_deeplab_s",
        {
            "HEAD": True,
            "PATH": [0, 1, 2, 3, 2],
            "GENOTYPE": [
                *([1, "atrous_5x5"], [0, "separable_3x3"]),
                *([2, "separable_5x5"], [0, "atrous_3x3"]),
            ],
        },
    ),
}
NAMES = [name for name in (*backbone_names(), *_VARIANTS) if name not in ALIASES]

# The narrowest at which the heads of attention (8) still divide its channels.
_WIDTHS = {name: 0.125 for name in backbone_names()}
_WIDTHS.update({name: 0.25 for name in MOBILE_NETWORKS})
# Narrow as they are.
_TINY = ("resnet_tiny", "max_deeplab_tiny")
_WIDTHS.update({name: 1.0 for name in _TINY})
# The memory path does not follow the width.
_SMALL_MEMORY = {
    "MEMORY__CHANNELS": [64, 64],
    "MEMORY__FEED_FORWARD_CHANNELS": 128,
    "MEMORY__EXPANSION": 0.5,
}
_WITH_MEMORY = ("max_deeplab_s", "max_deeplab_l", "max_deeplab_wide_resnet41")


def narrow_backbone(name: str, output_stride: int) -> Any:
    """The network of a row or a variant, narrow and of few blocks, with random statistics."""
    torch.manual_seed(0)
    row, own_options = _VARIANTS.get(name, (name, {}))
    options = dict(own_options)
    if row in RESIDUAL_NETWORKS:
        options["STEM_WIDTH_MULTIPLIER"] = 1.0 if row in _TINY else 0.125
        options["LAYER_MULTIPLIER"] = 0.34
    if row in _WITH_MEMORY:
        options.update(_SMALL_MEMORY)
    backbone = build_backbone_by_name(
        row,
        norm=Norm("BN"),
        output_stride=output_stride,
        width_multiplier=_WIDTHS[row],
        **options,
    )
    _randomise(backbone)
    return backbone.eval()


def _randomise(backbone: torch.nn.Module) -> None:
    """Residual branches that start as zeros would hide what is wrong in them."""
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.3, 0.8)
            module.bias.data.normal_(0.0, 0.1)
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        elif isinstance(module, ConvNeXtBlock):
            module.layer_scale.data.uniform_(0.3, 0.8)
