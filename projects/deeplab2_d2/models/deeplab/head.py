"""DeepLab v3 and v3+ as heads of Detectron2's ``SemanticSegmentor``."""

from typing import Any, Dict, Mapping, Optional, Tuple, Union

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor

from ...heads import DecoderSpec
from ...layers import Norm, resize_align_corners
from ...losses import average_top_k
from ...ops import upsampled_cross_entropy
from .decoders import ConcatenatedDecoder, SemanticDecoder, V3Decoder, V3PlusDecoder


class SemanticSegmentationHead(SemanticDecoder):
    """
    What the heads share: the loss, and logits of the input's size.

    Subclasses have a decoder, too, that implements :meth:`predict`.
    """

    @configurable
    def __init__(self, *, loss: Mapping[str, Any], **decoder: Any):
        """
        Args:
            loss: ``ignore_value`` (label of pixels without ground truth), ``loss_weight`` and
                ``loss_top_k`` (part of an image's pixels, those of the largest loss, that count).
            decoder: see the decoder that a subclass has.

        Raises:
            ValueError: for another part.
        """
        super().__init__(**decoder)
        self._set_loss(**loss)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> Dict[str, Any]:
        node = cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER
        return {
            "input_shape": input_shape,
            "decoder": DecoderSpec.from_config(cfg, node, input_shape),
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "norm": Norm.from_config(cfg),
            "loss": {
                "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
                "loss_weight": cfg.MODEL.DEEPLAB2.LOSS.SEMANTIC[0],
                "loss_top_k": cfg.MODEL.DEEPLAB2.LOSS.SEMANTIC[1],
            },
        }

    def _set_loss(
        self, *, ignore_value: int = 255, loss_weight: float = 1.0, loss_top_k: float = 1.0
    ) -> None:
        if not 0.0 < loss_top_k <= 1.0:
            raise ValueError(f"loss_top_k must be in (0, 1], got {loss_top_k}")
        self.ignore_value = ignore_value
        self.loss_weight = loss_weight
        self.loss_top_k = loss_top_k

    def forward(  # type: ignore[override]
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


@SEM_SEG_HEADS_REGISTRY.register()
class DeepLab2DeepLabV3Head(SemanticSegmentationHead, V3Decoder):
    """:class:`V3Decoder` with DeepLab2's 3x3 convolution after the ASPP."""


@SEM_SEG_HEADS_REGISTRY.register()
class DeepLab2DeepLabV3PlusHead(SemanticSegmentationHead, V3PlusDecoder):
    """:class:`V3PlusDecoder` with a loss."""


@SEM_SEG_HEADS_REGISTRY.register()
class DeepLab2HRNetHead(SemanticSegmentationHead, ConcatenatedDecoder):
    """:class:`ConcatenatedDecoder` with a loss."""
