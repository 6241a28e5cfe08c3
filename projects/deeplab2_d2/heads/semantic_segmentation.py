"""DeepLab v3 and v3+ as heads of Detectron2's ``SemanticSegmentor``."""

from typing import Any, Dict, Mapping, Optional, Tuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from ..layers import (
    ASPP,
    ConvNormAct,
    Norm,
    PaddedConv2d,
    SeparableConvNormAct,
    resize_align_corners,
)
from .decoder import aspp_options_from_config


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
    ) -> Tuple[Optional[Tensor], Dict[str, Tensor]]:
        """
        Args:
            features: name to (N, C, h, w).
            targets: (N, H, W) int64, in training.

        Returns:
            In training None and ``loss_sem_seg``. In evaluation the logits, and no losses:
            (N, num_classes, h * stride, w * stride), of which the input's H x W top-left pixels
            count (``SemanticSegmentor`` cuts them out). Pixels that features are centered on keep
            their values; below and to the right of the last, these are repeated.
        """
        logits = self.predict(features)
        if self.training:
            if targets is None:
                raise ValueError("targets must be given in training, got None")
            return None, {"loss_sem_seg": self._loss(logits, targets)}
        height, width = ((size - 1) * self.stride + 1 for size in logits.shape[-2:])
        logits = resize_align_corners(logits, (height, width))
        rest = self.stride - 1
        return F.pad(logits, (0, rest, 0, rest), mode="replicate"), {}

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        logits = resize_align_corners(logits, (targets.shape[-2], targets.shape[-1]))
        pixels = F.cross_entropy(
            logits.float(), targets, ignore_index=self.ignore_value, reduction="none"
        ).flatten(1)
        if self.loss_top_k < 1.0:
            pixels = pixels.topk(max(1, int(pixels.shape[1] * self.loss_top_k)), dim=1).values
        # As in DeepLab2 the mean is over what is not 0: ignored pixels do not count.
        counted = (pixels > 0).sum(dim=1).clamp(min=1)
        return self.loss_weight * (pixels.sum(dim=1) / counted).mean()


def _loss_options(cfg: CfgNode) -> Dict[str, Any]:
    return {
        "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        "loss_weight": cfg.MODEL.DEEPLAB2.LOSS.SEMANTIC_WEIGHT,
        "loss_top_k": cfg.MODEL.DEEPLAB2.LOSS.SEMANTIC_TOP_K,
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
        feature: str,
        channels: int,
        num_classes: int,
        norm: Norm,
        aspp: Mapping[str, Any],
        loss: Mapping[str, Any],
    ):
        """
        Args:
            input_shape: of the backbone's features.
            feature: name of the one that is used.
            channels: of the 3x3 convolution.
            aspp: ``aspp_channels``, ``atrous_rates``, ``aspp_only_1x1`` and ``aspp_pool_size``, see
                :class:`PanopticDeepLabDecoder`.
            loss: ``ignore_value``, ``loss_weight`` and ``loss_top_k``.
        """
        super().__init__(stride=_shape(input_shape, feature).stride, **loss)
        self.feature = feature
        self.aspp = _build_aspp(input_shape[feature].channels, aspp, norm)
        self.classifier_conv_bn_act = ConvNormAct(
            aspp["aspp_channels"], channels, 3, norm=norm, activation="relu"
        )
        self.final_conv = PaddedConv2d(channels, num_classes, 1)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> Dict[str, Any]:
        node = cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER
        return {
            "input_shape": input_shape,
            "feature": node.FEATURE,
            "channels": node.CHANNELS,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "norm": Norm.from_config(cfg),
            "aspp": aspp_options_from_config(cfg, node, input_shape),
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
        feature: str,
        low_level_feature: str,
        low_level_channels: int,
        channels: int,
        num_classes: int,
        norm: Norm,
        aspp: Mapping[str, Any],
        loss: Mapping[str, Any],
    ):
        """
        Args:
            low_level_feature: name of the one that is fused in.
            low_level_channels: that it is projected to.
            input_shape, feature, channels, aspp, loss: see :class:`DeepLab2DeepLabV3Head`.
        """
        super().__init__(stride=_shape(input_shape, low_level_feature).stride, **loss)
        self.feature = feature
        self.low_level_feature = low_level_feature
        self.aspp = _build_aspp(_shape(input_shape, feature).channels, aspp, norm)
        self.project_conv_bn_act = ConvNormAct(
            input_shape[low_level_feature].channels,
            low_level_channels,
            1,
            norm=norm,
            activation="relu",
        )
        self.fuse = FuseConvs(aspp["aspp_channels"] + low_level_channels, channels, norm=norm)
        self.final_conv = PaddedConv2d(channels, num_classes, 1)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> Dict[str, Any]:
        node = cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER
        if len(node.LOW_LEVEL_FEATURES) != 1 or len(node.LOW_LEVEL_CHANNELS) != 1:
            raise ValueError(
                "MODEL.DEEPLAB2.SEMANTIC_DECODER.LOW_LEVEL_FEATURES and LOW_LEVEL_CHANNELS must "
                f"have one element for DeepLab v3+, got {node.LOW_LEVEL_FEATURES} "
                f"and {node.LOW_LEVEL_CHANNELS}"
            )
        return {
            **DeepLab2DeepLabV3Head.from_config(cfg, input_shape),
            "low_level_feature": node.LOW_LEVEL_FEATURES[0],
            "low_level_channels": node.LOW_LEVEL_CHANNELS[0],
        }

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


def _shape(input_shape: Mapping[str, ShapeSpec], feature: str) -> ShapeSpec:
    if feature not in input_shape:
        raise ValueError(f"decoder feature must be of {list(input_shape)}, got {feature!r}")
    return input_shape[feature]


def _build_aspp(in_channels: int, options: Mapping[str, Any], norm: Norm) -> ASPP:
    return ASPP(
        in_channels,
        options["aspp_channels"],
        atrous_rates=options["atrous_rates"],
        use_only_1x1=options["aspp_only_1x1"],
        pool_size=options["aspp_pool_size"],
        norm=norm,
    )
