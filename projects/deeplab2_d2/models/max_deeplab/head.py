"""The heads of MaX-DeepLab: masks, their classes, and auxiliary semantic segmentation."""

import math
from typing import Any, Dict, Mapping, Optional

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...heads import Decoder, DecoderSpec, PredictionHead
from ...layers import Norm, SequenceConvNormAct, split_axis, truncated_normal_, zeros_
from ...structures import Encoded, MapKind, MemoryShape, Prediction

# Features of the backbone that the heads read.
PIXEL_FEATURE = "feature_panoptic"
SEMANTIC_FEATURE = "feature_semantic"

# Probability of void at initialization: most slots have no object.
_VOID_PRIOR = 0.9
# Of the mask logits' batch norm: masks begin soft.
_INITIAL_MASK_SCALE = 0.1
_CLASS_STD = 0.01


class MaXDeepLabHead(nn.Module):
    """
    Features of the pixel path and of the memory path to K masks with classes.

    Reference: MaX-DeepLab (arXiv:2012.00759), Sec. 3.3: the masks are the product of the mask
    features f, one of each slot, and the pixel features g; batch norm on f, on g and on f g takes
    the place of a careful initialization. As in DeepLab2 the class logits are biased towards void.
    """

    void_bias: Tensor

    @configurable
    def __init__(
        self,
        *,
        input_shape: Mapping[str, ShapeSpec],
        memory_shape: MemoryShape,
        num_classes: int,
        pixel_head: PredictionHead,
        pixel_channels: int,
        norm: Norm,
        semantic_head: Optional[PredictionHead] = None,
        semantic_decoder: Optional[Decoder] = None,
    ):
        """
        Args:
            input_shape: of the backbone's features.
            memory_shape: of its memory.
            num_classes: C, without void.
            pixel_head: ``feature_panoptic`` to ``pixel_channels`` channels.
            pixel_channels: D, of mask features and pixel features.
            semantic_head: auxiliary, from the decoder's output, or without one
                ``feature_semantic``.
            semantic_decoder: where ``feature_semantic`` has a larger stride than the masks.

        Raises:
            ValueError: if the backbone has no pixel features, or for a decoder without a head.
        """
        super().__init__()
        if PIXEL_FEATURE not in input_shape:
            raise ValueError(
                f"MaX-DeepLab's heads need a backbone with the feature {PIXEL_FEATURE!r}, such as "
                f"max_deeplab_s; got one with {sorted(input_shape)}"
            )
        if semantic_decoder is not None and semantic_head is None:
            raise ValueError("semantic_head must be given with semantic_decoder, got None")
        self.kinds: Dict[str, MapKind] = {
            "mask_logits": "logits",
            "class_logits": "slot_logits",
            "pixel_features": "embedding",
            "semantic_logits": "logits",
        }
        self.semantic_decoder = semantic_decoder
        self.semantic_head = semantic_head
        # The branch serves the loss alone.
        self.has_semantic_in_evaluation = False
        self.pixel_space_head = pixel_head
        self.pixel_space_feature_batch_norm = norm.build_batch_norm(pixel_channels)
        self.transformer_mask_head = SequenceConvNormAct(
            memory_shape.mask_channels, pixel_channels, norm=norm
        )
        self.transformer_class_head = nn.Conv1d(memory_shape.class_channels, num_classes + 1, 1)
        truncated_normal_(self.transformer_class_head.weight, std=_CLASS_STD)
        zeros_(self.transformer_class_head.bias)
        # One scale and shift for all slots.
        mask_norm: Any = norm.build_batch_norm(1, is_biased=True)
        nn.init.constant_(mask_norm.weight, _INITIAL_MASK_SCALE)
        self.pixel_space_mask_batch_norm = mask_norm
        bias = torch.zeros(num_classes + 1, 1)
        bias[-1] = math.log(num_classes * _VOID_PRIOR / (1.0 - _VOID_PRIOR))
        self.register_buffer("void_bias", bias, persistent=False)

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        input_shape: Mapping[str, ShapeSpec],
        memory_shape: MemoryShape,
        *,
        num_classes: int,
        activation: str = "relu",
        has_semantic_decoder: bool = True,
    ) -> Dict[str, Any]:
        """
        Args:
            cfg: MODEL.DEEPLAB2.MAX_DEEPLAB; SEMANTIC_DECODER and SEMANTIC_HEAD for the auxiliary
                branch, which has MODEL.SEM_SEG_HEAD.NUM_CLASSES channels.
            input_shape: of the backbone's features.
            memory_shape: of its memory.
            num_classes: of the dataset.
            activation: of the convolutions.
            has_semantic_decoder: of the auxiliary branch, where its feature is not at the stride
                of the masks; else its head reads the feature itself.

        Raises:
            ValueError: as the constructor.
        """
        node = cfg.MODEL.DEEPLAB2
        norm = Norm.from_config(cfg)
        parts: Dict[str, Any] = {
            "input_shape": input_shape,
            "memory_shape": memory_shape,
            "num_classes": num_classes,
            "pixel_channels": node.MAX_DEEPLAB.PIXEL_CHANNELS,
            "norm": norm,
        }

        pixels = input_shape.get(PIXEL_FEATURE, ShapeSpec(channels=1))
        parts["pixel_head"] = PredictionHead(
            pixels.channels,
            channels=node.MAX_DEEPLAB.PIXEL_HEAD.CHANNELS,
            out_channels=node.MAX_DEEPLAB.PIXEL_CHANNELS,
            conv_type=node.MAX_DEEPLAB.PIXEL_CONV_TYPE,
            norm=norm,
            activation=activation,
        )
        if node.MAX_DEEPLAB.AUXILIARY_SEMANTIC and SEMANTIC_FEATURE in input_shape:
            semantic = input_shape[SEMANTIC_FEATURE]
            channels = semantic.channels
            if has_semantic_decoder and semantic.stride != pixels.stride:
                spec = DecoderSpec.from_config(cfg, node.SEMANTIC_DECODER, input_shape)
                decoder = Decoder(spec, input_shape, norm=norm, activation=activation)
                parts["semantic_decoder"], channels = decoder, decoder.out_channels
            parts["semantic_head"] = PredictionHead(
                channels,
                channels=node.SEMANTIC_HEAD.CHANNELS,
                out_channels=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
                conv_type=node.SEMANTIC_DECODER.CONV_TYPE,
                norm=norm,
                activation=activation,
            )
        return parts

    def forward(self, encoded: Encoded) -> Prediction:
        """
        Args:
            encoded: features and memory of the backbone.

        Returns:
            Raw outputs of the size of ``feature_panoptic`` (stride 4), for K mask slots:

            - ``mask_logits``: (N, K, h, w); a softmax over K says which slot has a pixel;
            - ``class_logits``: (N, K, C + 1), the class of each slot: the things of the dataset,
              then its stuff, each in the order of their contiguous ids, then void (no object);
            - ``pixel_features``: (N, D, h, w), of unit length over D;
            - ``semantic_logits``: (N, S, h, w), of the auxiliary head, if there is one; in
              evaluation only where ``has_semantic_in_evaluation`` is set.
        """
        features, memory = encoded
        pixels = self.pixel_space_head(features[PIXEL_FEATURE])
        pixels = F.normalize(self.pixel_space_feature_batch_norm(pixels), dim=1, eps=1e-6)
        kernels = self.transformer_mask_head(memory.mask_features)
        masks = kernels.transpose(1, 2) @ pixels.flatten(2)
        # (N, K, P) as one channel: the statistics are those of all slots together.
        masks = self.pixel_space_mask_batch_norm(masks[:, None])[:, 0]
        classes = self.transformer_class_head(memory.class_features) + self.void_bias
        prediction = {
            "mask_logits": split_axis(masks, 2, pixels.shape[-2:]),
            "class_logits": classes.transpose(1, 2),
            "pixel_features": pixels,
        }
        if self.semantic_head is not None and (self.training or self.has_semantic_in_evaluation):
            semantic = features[SEMANTIC_FEATURE]
            if self.semantic_decoder is not None:
                semantic = self.semantic_decoder(features)
            prediction["semantic_logits"] = self.semantic_head(semantic)
        return prediction
