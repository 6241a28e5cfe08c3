"""Decoders: an ASPP, then fusion with features of higher resolution."""

from dataclasses import dataclass
from typing import Mapping, Optional, Sequence, Tuple

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..layers import ASPP, ConvNormAct, Norm, build_conv, resize_align_corners

# Pixels of the network's input that the ASPP's three atrous branches reach, in either direction.
_ATROUS_REACHES = (96, 192, 288)

_ASPPS = ("tiled", "global", "global_plain", "1x1")


@dataclass(frozen=True)
class DecoderSpec:
    """
    A decoder as data.

    Attributes:
        feature: name of the backbone's feature that the ASPP reads.
        low_level: (name, channels it is projected to) of the features that are fused in, from low
            to high resolution.
        channels: after every fusion.
        aspp_channels, atrous_rates: see :class:`ASPP`.
        aspp_only_1x1: one 1x1 convolution in place of the ASPP.
        aspp_pool_size: (height, width) window of the ASPP's mean, in pixels of ``feature``; None:
            the whole map.
        aspp_has_pool_norm: the ASPP's pooling branch has a norm.
        aspp_conv_type: of the ASPP's atrous branches, see :func:`build_conv`.
        aspp_dropout: probability at the ASPP's end.
        conv_type: of the fusions, see the same.
        fusion: kernel size and number of the convolutions of a fusion.
        aspp_of: name of the decoder whose ASPP's output is read; None: of one of its own.
    """

    feature: str
    low_level: Tuple[Tuple[str, int], ...]
    channels: int
    aspp_channels: int
    atrous_rates: Tuple[int, ...] = ()
    aspp_only_1x1: bool = False
    aspp_pool_size: Optional[Tuple[int, int]] = None
    aspp_has_pool_norm: bool = True
    aspp_conv_type: str = "standard_conv"
    aspp_dropout: float = 0.1
    conv_type: str = "depthwise_separable_conv"
    fusion: Tuple[int, int] = (5, 1)
    aspp_of: Optional[str] = None

    @classmethod
    def from_config(
        cls, cfg: CfgNode, node: CfgNode, input_shape: Mapping[str, ShapeSpec]
    ) -> "DecoderSpec":
        """
        The decoder that a node of the config describes.

        A tiled mean's window is as large as the feature's map of a training crop.

        Args:
            cfg: INPUT.CROP.SIZE.
            node: MODEL.DEEPLAB2.SEMANTIC_DECODER, or another of its kind.
            input_shape: of the backbone's features.

        Raises:
            ValueError: for a feature or an ASPP that does not exist, or a tiled mean without a
                crop size.
        """
        return describe_decoder(
            feature=node.FEATURE,
            low_level=tuple((name, channels) for name, channels in node.LOW_LEVEL),
            channels=node.CHANNELS,
            aspp=node.ASPP,
            aspp_channels=node.ASPP_CHANNELS,
            atrous_rates=node.ATROUS_RATES,
            aspp_conv_type=node.ASPP_CONV_TYPE,
            aspp_dropout=node.ASPP_DROPOUT,
            conv_type=node.CONV_TYPE,
            fusion=tuple(node.FUSION),
            input_shape=input_shape,
            crop_size=cfg.INPUT.CROP.SIZE,
        )


def describe_decoder(
    *,
    input_shape: Mapping[str, ShapeSpec],
    crop_size: Sequence[float],
    channels: int,
    low_level: Sequence[Tuple[str, int]],
    feature: str = "res5",
    aspp: str = "tiled",
    aspp_channels: int = 256,
    aspp_conv_type: str = "standard_conv",
    aspp_dropout: float = 0.1,
    atrous_rates: Sequence[int] = (),
    conv_type: str = "depthwise_separable_conv",
    fusion: Tuple[int, int] = (5, 1),
) -> DecoderSpec:
    """
    A decoder as data, by the words of the config; see :func:`deeplab2_d2.config.decoder_node`.

    Args:
        input_shape: of the backbone's features.
        crop_size: (height, width) of a training crop: the window of a "tiled" mean is as large as
            the feature's map of it.

    Raises:
        ValueError: see :meth:`DecoderSpec.from_config`.
    """
    if aspp not in _ASPPS:
        raise ValueError(f"ASPP must be one of {_ASPPS}, got {aspp!r}")
    stride = shape_of(input_shape, feature).stride
    assert stride is not None
    rates = tuple(atrous_rates) or tuple(max(1, reach // stride) for reach in _ATROUS_REACHES)
    return DecoderSpec(
        feature=feature,
        low_level=tuple((name, projected) for name, projected in low_level),
        channels=channels,
        aspp_channels=aspp_channels,
        atrous_rates=() if aspp == "1x1" else rates,
        aspp_only_1x1=aspp == "1x1",
        aspp_pool_size=_pool_size(crop_size, stride) if aspp == "tiled" else None,
        aspp_has_pool_norm=aspp != "global_plain",
        aspp_conv_type=aspp_conv_type,
        aspp_dropout=aspp_dropout,
        conv_type=conv_type,
        fusion=fusion,
    )


def _pool_size(crop_size: Sequence[float], stride: int) -> Tuple[int, int]:
    if len(crop_size) != 2 or min(crop_size) < 2:
        raise ValueError(
            "INPUT.CROP.SIZE must be (height, width) in pixels for ASPP 'tiled', "
            f"got {crop_size}"
        )
    height, width = (int(side - 1) // stride + 1 for side in crop_size)
    return height, width


def shape_of(input_shape: Mapping[str, ShapeSpec], feature: str) -> ShapeSpec:
    """
    Raises:
        ValueError: if the backbone has no such feature.
    """
    if feature not in input_shape:
        raise ValueError(f"decoder feature must be of {list(input_shape)}, got {feature!r}")
    return input_shape[feature]


def build_aspp(spec: DecoderSpec, in_channels: int, norm: Norm, activation: str = "relu") -> ASPP:
    """The ASPP of a decoder."""
    return ASPP(
        in_channels,
        spec.aspp_channels,
        atrous_rates=spec.atrous_rates,
        norm=norm,
        use_only_1x1=spec.aspp_only_1x1,
        pool_size=spec.aspp_pool_size,
        has_pool_norm=spec.aspp_has_pool_norm,
        activation=activation,
        conv_type=spec.aspp_conv_type,
        dropout=spec.aspp_dropout,
    )


class FusionConvs(nn.Module):
    """The convolutions after a concatenation."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        norm: Norm,
        fusion: Tuple[int, int] = (3, 2),
        conv_type: str = "depthwise_separable_conv",
        activation: str = "relu",
    ):
        """
        Args:
            fusion: their kernel size and number; by default DeepLab v3+'s.
        """
        super().__init__()
        kernel_size, count = fusion
        for index in range(1, count + 1):
            conv = build_conv(
                conv_type, in_channels, channels, kernel_size, norm=norm, activation=activation
            )
            self.add_module(f"conv{index}_bn_act", conv)
            in_channels = channels

    def forward(self, features: Tensor) -> Tensor:
        for conv in self.children():
            features = conv(features)
        return features


class Decoder(nn.Module):
    """
    The decoder of one task, semantic or instance.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3.1; the paper's "dual" ASPP and decoder
    are two of these.
    """

    def __init__(
        self,
        spec: DecoderSpec,
        input_shape: Mapping[str, ShapeSpec],
        *,
        norm: Norm,
        activation: str = "relu",
    ):
        """
        Args:
            spec: what it is made of.
            input_shape: of the backbone's features.

        Raises:
            ValueError: for a feature that is not in ``input_shape``.
        """
        super().__init__()
        self.feature = spec.feature
        self.low_level_features = tuple(name for name, _ in spec.low_level)
        for name in (self.feature, *self.low_level_features):
            shape_of(input_shape, name)
        self.aspp_of = spec.aspp_of
        if spec.aspp_of is None:
            self.aspp = build_aspp(spec, input_shape[self.feature].channels, norm, activation)
        in_channels = spec.aspp_channels
        for index, (name, projected) in enumerate(spec.low_level, start=1):
            projection = ConvNormAct(
                input_shape[name].channels, projected, 1, norm=norm, activation=activation
            )
            fusion = FusionConvs(
                in_channels + projected,
                spec.channels,
                norm=norm,
                fusion=spec.fusion,
                conv_type=spec.conv_type,
                activation=activation,
            )
            self.add_module(f"low_level_conv{index}", projection)
            self.add_module(f"fusion_conv{index}", fusion)
            in_channels = spec.channels
        self.out_channels = in_channels

    def forward(self, features: Mapping[str, Tensor], context: Optional[Tensor] = None) -> Tensor:
        """
        Args:
            features: name to (N, C, h, w).
            context: output of the ASPP; None: of this decoder's own.

        Returns:
            (N, out_channels, h, w) of the last low-level feature's size.
        """
        decoded = self.aspp(features[self.feature]) if context is None else context
        for index, name in enumerate(self.low_level_features, start=1):
            low_level = getattr(self, f"low_level_conv{index}")(features[name])
            height, width = low_level.shape[-2:]
            decoded = resize_align_corners(decoded, (height, width))
            decoded = getattr(self, f"fusion_conv{index}")(torch.cat([decoded, low_level], dim=1))
        return decoded
