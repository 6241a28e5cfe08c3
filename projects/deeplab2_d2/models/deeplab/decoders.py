"""The networks of DeepLab v3 and v3+, and HRNet's own, after the backbone."""

from typing import Dict, Mapping, Sequence

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...heads import DecoderSpec, FusionConvs, build_aspp, shape_of
from ...layers import (
    CellBranch,
    ConvNormAct,
    DensePredictionCell,
    Norm,
    PaddedConv2d,
    resize_align_corners,
)
from ...structures import MapKind, Prediction


class SemanticDecoder(nn.Module):
    """
    Features to logits; subclasses implement :meth:`predict`.

    Attributes:
        stride: of the logits.
        kinds: of the maps of a prediction.
        classifier_parts: see :func:`classifier_names`.
    """

    stride: int
    kinds: Dict[str, MapKind] = {"semantic_logits": "logits"}
    classifier_parts = ("final_conv",)

    def predict(self, features: Mapping[str, Tensor]) -> Tensor:
        """Features to logits (N, num_classes, h, w) at this decoder's stride."""
        raise NotImplementedError

    def forward(self, features: Mapping[str, Tensor]) -> Prediction:
        """
        Args:
            features: name to (N, C, h, w).

        Returns:
            ``semantic_logits``, (N, num_classes, h, w).
        """
        return {"semantic_logits": self.predict(features)}


class V3Decoder(SemanticDecoder):
    """
    ASPP, and a convolution to the classes, at the stride of the last feature.

    Reference: DeepLab v3 (arXiv:1706.05587).
    """

    def __init__(
        self,
        *,
        input_shape: Mapping[str, ShapeSpec],
        decoder: DecoderSpec,
        num_classes: int,
        norm: Norm,
        cell: Sequence[CellBranch] = (),
    ):
        """
        Args:
            input_shape: of the backbone's features.
            decoder: its feature, its ASPP, and the channels of a 3x3 convolution after that, which
                DeepLab2 has; 0 for none.
            cell: branches of a dense prediction cell in place of the ASPP.
        """
        super().__init__()
        shape = shape_of(input_shape, decoder.feature)
        assert shape.stride is not None
        self.stride, self.feature = shape.stride, decoder.feature
        self.aspp = _context(decoder, shape, norm, cell)
        channels = decoder.aspp_channels
        if decoder.channels:
            self.classifier_conv_bn_act = ConvNormAct(
                channels, decoder.channels, 3, norm=norm, activation="relu"
            )
            channels = decoder.channels
        self.has_classifier_conv = decoder.channels > 0
        self.final_conv = PaddedConv2d(channels, num_classes, 1)

    def predict(self, features: Mapping[str, Tensor]) -> Tensor:
        decoded = self.aspp(features[self.feature])
        if self.has_classifier_conv:
            decoded = self.classifier_conv_bn_act(decoded)
        return self.final_conv(decoded)


class V3PlusDecoder(SemanticDecoder):
    """
    ASPP, fusion with one low-level feature by two 3x3 convolutions, and one to the classes.

    Reference: DeepLab v3+ (arXiv:1802.02611), Sec. 3.1.
    """

    def __init__(
        self,
        *,
        input_shape: Mapping[str, ShapeSpec],
        decoder: DecoderSpec,
        num_classes: int,
        norm: Norm,
        cell: Sequence[CellBranch] = (),
    ):
        """
        Args:
            decoder: its feature, its ASPP, one low-level feature, and the channels of the fusion.
            input_shape, cell: see :class:`V3Decoder`.

        Raises:
            ValueError: for another number of low-level features.
        """
        super().__init__()
        if len(decoder.low_level) != 1:
            raise ValueError(
                "DeepLab v3+ must have one low-level feature (config key "
                "MODEL.DEEPLAB2.SEMANTIC_DECODER.LOW_LEVEL), "
                f"got {[name for name, _ in decoder.low_level]}"
            )
        ((low_level, projected),) = decoder.low_level
        shape = shape_of(input_shape, low_level)
        assert shape.stride is not None and shape.channels is not None
        self.stride = shape.stride
        self.feature = decoder.feature
        self.low_level_feature = low_level
        self.aspp = _context(decoder, shape_of(input_shape, decoder.feature), norm, cell)
        self.project_conv_bn_act = ConvNormAct(
            shape.channels, projected, 1, norm=norm, activation="relu"
        )
        self.fuse = FusionConvs(
            decoder.aspp_channels + projected,
            decoder.channels,
            norm=norm,
            conv_type=decoder.conv_type,
        )
        self.final_conv = PaddedConv2d(decoder.channels, num_classes, 1)

    def predict(self, features: Mapping[str, Tensor]) -> Tensor:
        low_level = self.project_conv_bn_act(features[self.low_level_feature])
        decoded = self.aspp(features[self.feature])
        decoded = resize_align_corners(decoded, (low_level.shape[-2], low_level.shape[-1]))
        return self.final_conv(self.fuse(torch.cat([decoded, low_level], dim=1)))


class ConcatenatedDecoder(SemanticDecoder):
    """
    Two 1x1 convolutions on HRNet's concatenated branches, at their stride.

    Reference: HRNet (arXiv:1908.07919), Sec. 3.4; Panoptic-DeepLab (arXiv:1911.10194), Fig. 5.
    """

    def __init__(
        self,
        *,
        input_shape: Mapping[str, ShapeSpec],
        decoder: DecoderSpec,
        num_classes: int,
        norm: Norm,
    ):
        """
        Args:
            input_shape: of the backbone's features.
            decoder: its feature, of which the first convolution keeps the channels.
        """
        super().__init__()
        shape = shape_of(input_shape, decoder.feature)
        assert shape.stride is not None and shape.channels is not None
        self.stride, self.feature = shape.stride, decoder.feature
        # The bias has no effect beside the norm, but HRNet's weights have it.
        self.fuse = ConvNormAct(
            shape.channels, shape.channels, 1, norm=norm, activation="relu", use_bias=True
        )
        self.final_conv = PaddedConv2d(shape.channels, num_classes, 1)

    def predict(self, features: Mapping[str, Tensor]) -> Tensor:
        return self.final_conv(self.fuse(features[self.feature]))


def _context(
    decoder: DecoderSpec, shape: ShapeSpec, norm: Norm, cell: Sequence[CellBranch]
) -> nn.Module:
    assert shape.channels is not None
    if cell:
        return DensePredictionCell(shape.channels, decoder.aspp_channels, branches=cell, norm=norm)
    return build_aspp(decoder, shape.channels, norm)
