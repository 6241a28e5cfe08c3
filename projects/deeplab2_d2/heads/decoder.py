"""Decoders: an ASPP, then fusion with features of higher resolution."""

from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..layers import ASPP, ConvNormAct, Norm, build_conv, resize_align_corners


class FusionConv(nn.Module):
    """The 5x5 convolution after a concatenation."""

    def __init__(
        self, in_channels: int, out_channels: int, *, conv_type: str, norm: Norm, activation: str
    ):
        super().__init__()
        self.conv1_bn_act = build_conv(
            conv_type, in_channels, out_channels, 5, norm=norm, activation=activation
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.conv1_bn_act(features)


class PanopticDeepLabDecoder(nn.Module):
    """
    The decoder of one task, semantic or instance.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3.1; the paper's "dual" ASPP and decoder
    are two of these.
    """

    def __init__(
        self,
        *,
        input_shape: Mapping[str, ShapeSpec],
        feature: str,
        low_level_features: Sequence[str],
        low_level_channels: Sequence[int],
        channels: int,
        aspp_channels: int,
        atrous_rates: Sequence[int],
        norm: Norm,
        conv_type: str = "depthwise_separable_conv",
        aspp_only_1x1: bool = False,
        aspp_pool_size: Optional[Tuple[int, int]] = None,
        activation: str = "relu",
    ):
        """
        Args:
            input_shape: of the backbone's features.
            feature: name of the one that the ASPP reads.
            low_level_features: names of those that are fused in, from low to high resolution.
            low_level_channels: channels that each of them is projected to.
            channels: after every fusion.
            aspp_channels, atrous_rates, aspp_only_1x1: see :class:`ASPP`.
            aspp_pool_size: window of the ASPP's mean, in pixels of ``feature``; None: all.
            conv_type: of the fusions, see :func:`build_conv`.

        Raises:
            ValueError: for a feature that is not in ``input_shape``, or names and channels that
                are not as many.
        """
        super().__init__()
        if len(low_level_features) != len(low_level_channels):
            raise ValueError(
                "low_level_features and low_level_channels must be as many, "
                f"got {list(low_level_features)} and {list(low_level_channels)}"
            )
        for name in (feature, *low_level_features):
            if name not in input_shape:
                raise ValueError(f"decoder feature must be of {list(input_shape)}, got {name!r}")
        self.feature = feature
        self.low_level_features = tuple(low_level_features)
        self.aspp = ASPP(
            input_shape[feature].channels,
            aspp_channels,
            atrous_rates=atrous_rates,
            norm=norm,
            use_only_1x1=aspp_only_1x1,
            pool_size=aspp_pool_size,
            activation=activation,
        )
        in_channels = aspp_channels
        for index, (name, projected) in enumerate(
            zip(low_level_features, low_level_channels), start=1
        ):
            projection = ConvNormAct(
                input_shape[name].channels, projected, 1, norm=norm, activation=activation
            )
            fusion = FusionConv(
                in_channels + projected,
                channels,
                conv_type=conv_type,
                norm=norm,
                activation=activation,
            )
            self.add_module(f"low_level_conv{index}", projection)
            self.add_module(f"fusion_conv{index}", fusion)
            in_channels = channels
        self.out_channels = in_channels

    @classmethod
    def options_from_config(
        cls, cfg: CfgNode, node: CfgNode, input_shape: Mapping[str, ShapeSpec]
    ) -> Dict[str, Any]:
        """
        Constructor arguments for one decoder's node of the config.

        Raises:
            ValueError: for a pooling that does not exist, or a tiled one without a crop size.
        """
        return {
            "input_shape": input_shape,
            "feature": node.FEATURE,
            "low_level_features": node.LOW_LEVEL_FEATURES,
            "low_level_channels": node.LOW_LEVEL_CHANNELS,
            "channels": node.CHANNELS,
            "conv_type": node.CONV_TYPE,
            "norm": Norm.from_config(cfg),
            **aspp_options_from_config(cfg, node, input_shape),
        }

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """
        Args:
            features: name to (N, C, h, w).

        Returns:
            (N, out_channels, h, w) of the last low-level feature's size.
        """
        decoded = self.aspp(features[self.feature])
        for index, name in enumerate(self.low_level_features, start=1):
            low_level = getattr(self, f"low_level_conv{index}")(features[name])
            height, width = low_level.shape[-2:]
            decoded = resize_align_corners(decoded, (height, width))
            decoded = getattr(self, f"fusion_conv{index}")(torch.cat([decoded, low_level], dim=1))
        return decoded


def aspp_options_from_config(
    cfg: CfgNode, node: CfgNode, input_shape: Mapping[str, ShapeSpec]
) -> Dict[str, Any]:
    """
    What a decoder's node of the config says about its ASPP.

    A tiled mean's window is as large as the feature's map of a training crop.
    """
    if node.ASPP_POOLING not in ("tiled", "global"):
        raise ValueError(f"ASPP_POOLING must be 'tiled' or 'global', got {node.ASPP_POOLING!r}")
    pool_size = None
    if node.ASPP_POOLING == "tiled" and not node.ASPP_ONLY_1X1:
        if node.FEATURE not in input_shape:
            raise ValueError(
                f"decoder feature must be of {list(input_shape)}, got {node.FEATURE!r}"
            )
        stride = input_shape[node.FEATURE].stride
        pool_size = tuple(int(size - 1) // stride + 1 for size in cfg.INPUT.CROP.SIZE)
        if len(pool_size) != 2 or min(cfg.INPUT.CROP.SIZE) < 2:
            raise ValueError(
                "INPUT.CROP.SIZE must be (height, width) in pixels for ASPP_POOLING 'tiled', "
                f"got {cfg.INPUT.CROP.SIZE}"
            )
    return {
        "aspp_channels": node.ASPP_CHANNELS,
        "atrous_rates": node.ATROUS_RATES,
        "aspp_only_1x1": node.ASPP_ONLY_1X1,
        "aspp_pool_size": pool_size,
    }
