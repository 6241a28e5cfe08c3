"""DeepLab v3 and v3+ as heads of Detectron2's ``SemanticSegmentor``."""

from typing import Any, Dict, Mapping, Optional, Tuple, Union

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from ...heads import DecoderSpec, build_aspp, shape_of
from ...layers import (
    ConvNormAct,
    Norm,
    PaddedConv2d,
    SeparableConvNormAct,
    resize_align_corners,
)
from ...losses import average_top_k
from ...ops import upsampled_cross_entropy


class SemanticSegmentationHead(nn.Module):
    """
    What the two heads share: the loss, and logits of the input's size.

    Subclasses implement :meth:`predict`.
    """

    def __init__(
        self,
        *,
        stride: int,
        ignore_value: int = 255,
        loss_weight: float = 1.0,
        loss_top_k: float = 1.0,
    ):
        """
        Args:
            stride: of the logits.
            ignore_value: label of pixels without ground truth.
            loss_weight: factor on the loss.
            loss_top_k: part of an image's pixels, those of the largest loss, that count: (0, 1].

        Raises:
            ValueError: for another part.
        """
        super().__init__()
        if not 0.0 < loss_top_k <= 1.0:
            raise ValueError(f"loss_top_k must be in (0, 1], got {loss_top_k}")
        self.stride = stride
        self.ignore_value = ignore_value
        self.loss_weight = loss_weight
        self.loss_top_k = loss_top_k

    def predict(self, features: Mapping[str, Tensor]) -> Tensor:
        """Features to logits (N, num_classes, h, w) at this head's stride."""
        raise NotImplementedError

    def forward(
        self, features: Mapping[str, Tensor], targets: Optional[Tensor] = None
    ) -> Tuple[Optional[Tensor], Union[Dict[str, Tensor], Tuple[()]]]:
        """
        Args:
            features: name to (N, C, h, w).
            targets: (N, H, W) int64, in training.

        Returns:
            In training None and ``loss_sem_seg``. In evaluation the logits, and no losses:
            (N, num_classes, h * stride, w * stride), of which the input's H x W top-left pixels
            count (``SemanticSegmentor`` cuts them out). Pixels that features are centered on keep
            their values; below and to the right of the last, these are repeated.
            ``torch.jit.trace`` gets an empty tuple for the losses.
        """
        logits = self.predict(features)
        if self.training:
            if targets is None:
                raise ValueError("targets must be given in training, got None")
            return None, {"loss_sem_seg": self._loss(logits, targets)}
        height, width = ((size - 1) * self.stride + 1 for size in logits.shape[-2:])
        logits = resize_align_corners(logits, (height, width))
        rest = self.stride - 1
        logits = F.pad(logits, (0, rest, 0, rest), mode="replicate")
        # An empty dict has no type for the tracer.
        return logits, () if torch.jit.is_tracing() else {}

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            losses = upsampled_cross_entropy(logits, targets, None, ignore_label=self.ignore_value)
            return self.loss_weight * average_top_k(losses, self.loss_top_k).mean()


def _loss_options(cfg: CfgNode) -> Dict[str, Any]:
    return {
        "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        "loss_weight": cfg.MODEL.DEEPLAB2.LOSS.SEMANTIC[0],
        "loss_top_k": cfg.MODEL.DEEPLAB2.LOSS.SEMANTIC[1],
    }


@SEM_SEG_HEADS_REGISTRY.register()
class DeepLab2DeepLabV3Head(SemanticSegmentationHead):
    """
    ASPP, a 3x3 convolution, and one to the classes, at the stride of the last feature.

    Reference: DeepLab v3 (arXiv:1706.05587).
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: Mapping[str, ShapeSpec],
        decoder: DecoderSpec,
        num_classes: int,
        norm: Norm,
        loss: Mapping[str, Any],
    ):
        """
        Args:
            input_shape: of the backbone's features.
            decoder: its feature, its ASPP, and the channels of the 3x3 convolution.
            loss: ``ignore_value``, ``loss_weight`` and ``loss_top_k``.
        """
        shape = shape_of(input_shape, decoder.feature)
        super().__init__(stride=shape.stride, **loss)
        self.feature = decoder.feature
        self.aspp = build_aspp(decoder, shape.channels, norm)
        self.classifier_conv_bn_act = ConvNormAct(
            decoder.aspp_channels, decoder.channels, 3, norm=norm, activation="relu"
        )
        self.final_conv = PaddedConv2d(decoder.channels, num_classes, 1)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> Dict[str, Any]:
        node = cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER
        return {
            "input_shape": input_shape,
            "decoder": DecoderSpec.from_config(cfg, node, input_shape),
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "norm": Norm.from_config(cfg),
            "loss": _loss_options(cfg),
        }

    def predict(self, features: Mapping[str, Tensor]) -> Tensor:
        decoded = self.aspp(features[self.feature])
        return self.final_conv(self.classifier_conv_bn_act(decoded))


@SEM_SEG_HEADS_REGISTRY.register()
class DeepLab2DeepLabV3PlusHead(SemanticSegmentationHead):
    """
    ASPP, fusion with one low-level feature by two separable convolutions, and one to the classes.

    Reference: DeepLab v3+ (arXiv:1802.02611), Sec. 3.1.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: Mapping[str, ShapeSpec],
        decoder: DecoderSpec,
        num_classes: int,
        norm: Norm,
        loss: Mapping[str, Any],
    ):
        """
        Args:
            decoder: its feature, its ASPP, one low-level feature, and the channels of the fusion.
            input_shape, loss: see :class:`DeepLab2DeepLabV3Head`.

        Raises:
            ValueError: for another number of low-level features.
        """
        if len(decoder.low_level) != 1:
            raise ValueError(
                "DeepLab v3+ must have one low-level feature (config key "
                "MODEL.DEEPLAB2.SEMANTIC_DECODER.LOW_LEVEL), "
                f"got {[name for name, _ in decoder.low_level]}"
            )
        ((low_level, projected),) = decoder.low_level
        shape = shape_of(input_shape, low_level)
        super().__init__(stride=shape.stride, **loss)
        self.feature = decoder.feature
        self.low_level_feature = low_level
        self.aspp = build_aspp(decoder, shape_of(input_shape, decoder.feature).channels, norm)
        self.project_conv_bn_act = ConvNormAct(
            shape.channels, projected, 1, norm=norm, activation="relu"
        )
        self.fuse = FuseConvs(decoder.aspp_channels + projected, decoder.channels, norm=norm)
        self.final_conv = PaddedConv2d(decoder.channels, num_classes, 1)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> Dict[str, Any]:
        return DeepLab2DeepLabV3Head.from_config(cfg, input_shape)

    def predict(self, features: Mapping[str, Tensor]) -> Tensor:
        low_level = self.project_conv_bn_act(features[self.low_level_feature])
        decoded = self.aspp(features[self.feature])
        decoded = resize_align_corners(decoded, (low_level.shape[-2], low_level.shape[-1]))
        return self.final_conv(self.fuse(torch.cat([decoded, low_level], dim=1)))


class FuseConvs(nn.Module):
    """Two separable 3x3 convolutions."""

    def __init__(self, in_channels: int, channels: int, *, norm: Norm):
        super().__init__()
        self.conv1_bn_act = SeparableConvNormAct(
            in_channels, channels, 3, norm=norm, activation="relu"
        )
        self.conv2_bn_act = SeparableConvNormAct(
            channels, channels, 3, norm=norm, activation="relu"
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.conv2_bn_act(self.conv1_bn_act(features))
