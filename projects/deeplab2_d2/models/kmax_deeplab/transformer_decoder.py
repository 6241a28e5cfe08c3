"""
The transformer decoder of kMaX-DeepLab: cluster centers that pixels are assigned to.

Reference: k-means Mask Transformer (arXiv:2207.04044), Sec. 3.2; DeepLab2's
``KMaXTransformerDecoder``. Letters: N images, C channels, P pixels, K centers (mask slots).
"""

from dataclasses import dataclass
from typing import Any, Callable, List, Sequence, Tuple

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...layers import (
    Activation,
    CrossAttention,
    DropPath,
    Norm,
    PixelAssignment,
    SequenceConvNormAct,
    split_axis,
    truncated_normal_,
)
from ...structures import Encoded, Memory, MemoryShape, Prediction
from ..max_deeplab.head import PIXEL_FEATURE

_ACTIVATION = "gelu"

# Shape of the pixels to a head without auxiliary branches.
PredictorBuilder = Callable[[ShapeSpec, MemoryShape], nn.Module]


@dataclass(frozen=True)
class TransformerSpec:
    """
    A transformer decoder as data.

    Attributes:
        num_layers: for the maps of stride 32, 16 and 8.
        num_slots: cluster centers, K.
        channels: of a center, of a layer's pixels, and of its queries and values.
        feed_forward_channels: inner channels of the feed-forward network.
        num_heads: of the centers' self-attention.
        drop_path_keep_prob: probability to keep a residual of a sample in training.
    """

    num_layers: Tuple[int, ...] = (2, 2, 2)
    num_slots: int = 128
    channels: int = 256
    feed_forward_channels: int = 2048
    num_heads: int = 8
    drop_path_keep_prob: float = 0.8


class KMeansLayer(nn.Module):
    """
    One step of k-means: assign the pixels, move the centers, let these see each other.

    Eq. 7 of the paper: a pixel belongs to the center of which its mask logit is largest, and a
    center gains the sum of its pixels' values. The mask logits are those of a whole prediction,
    which is learnt like the last one.
    """

    def __init__(
        self,
        pixel_channels: int,
        spec: TransformerSpec,
        *,
        build_predictor: PredictorBuilder,
        norm: Norm,
    ):
        super().__init__()
        channels = spec.channels
        self.activation = Activation(_ACTIVATION)
        # Queries and keys have half the channels of values, as in MaX-DeepLab.
        self.key_depth = channels // 2
        self.memory_conv1_bn_act = SequenceConvNormAct(
            channels, channels, norm=norm, activation=_ACTIVATION
        )
        self.pixel_conv1_bn_act = SequenceConvNormAct(
            pixel_channels, channels, norm=norm, activation=_ACTIVATION
        )
        self.memory_qkv_conv_bn = _projection(channels, 2 * channels, norm)
        self.pixel_v_conv_bn = _projection(channels, channels, norm)
        self.memory_attention = CrossAttention(
            num_heads=spec.num_heads,
            value_depth=channels,
            activation=_ACTIVATION,
            attention_activation="softmax",
            norm=norm,
        )
        self.memory_conv3_bn = SequenceConvNormAct(
            channels, channels, norm=norm, zero_init_norm=True
        )
        self.kmeans_memory_batch_norm_retrieved_value = norm.build_batch_norm(
            channels, is_biased=True
        )
        self.kmeans_memory_conv3_bn = SequenceConvNormAct(
            channels, channels, norm=norm, zero_init_norm=True
        )
        self.memory_ffn_conv1_bn_act = SequenceConvNormAct(
            channels, spec.feed_forward_channels, norm=norm, activation=_ACTIVATION
        )
        self.memory_ffn_conv2_bn = SequenceConvNormAct(
            spec.feed_forward_channels, channels, norm=norm, zero_init_norm=True
        )
        self.auxiliary_clustering_predictor = build_predictor(
            ShapeSpec(channels=channels), MemoryShape(spec.num_slots, channels, channels)
        )
        self.assignment = PixelAssignment()
        self.drop_path = DropPath(spec.drop_path_keep_prob)

    def forward(self, pixels: Tensor, centers: Tensor) -> Tuple[Tensor, Prediction]:
        """
        Args:
            pixels: (N, C', h, w), not activated.
            centers: (N, C, K), activated (or the learned centers themselves).

        Returns:
            The centers, moved and activated, and the prediction that assigned the pixels.
        """
        sequence = self.pixel_conv1_bn_act(self.activation(pixels.flatten(2)))
        memory = self.memory_conv1_bn_act(centers)
        prediction = self.auxiliary_clustering_predictor(
            Encoded(
                {PIXEL_FEATURE: split_axis(sequence, 2, pixels.shape[-2:])}, Memory(memory, memory)
            )
        )
        values = self.pixel_v_conv_bn(sequence)
        gathered = values @ self.assignment(prediction["mask_logits"], values)
        gathered = self.kmeans_memory_batch_norm_retrieved_value(gathered[..., None])[..., 0]
        centers = centers + self.drop_path(self.kmeans_memory_conv3_bn(gathered))
        depth = self.key_depth
        query, key, value = self.memory_qkv_conv_bn(memory).split([depth, depth, 2 * depth], dim=1)
        update = self.memory_conv3_bn(self.memory_attention(query, key, value))
        centers = self.activation(centers + self.drop_path(update))
        update = self.memory_ffn_conv2_bn(self.memory_ffn_conv1_bn_act(centers))
        return self.activation(centers + self.drop_path(update)), prediction


class TransformerDecoder(nn.Module):
    """Learned centers through all layers, and what of them decides classes and masks."""

    def __init__(
        self,
        pixel_shapes: Sequence[ShapeSpec],
        spec: TransformerSpec,
        *,
        build_predictor: PredictorBuilder,
        norm: Norm,
    ):
        """
        Args:
            pixel_shapes: of the maps, from low to high resolution, as many as ``spec.num_layers``.
            spec: what it is made of.
            build_predictor: makes the prediction of a layer.
        """
        super().__init__()
        self.cluster_centers = nn.Parameter(torch.empty(1, spec.num_slots, spec.channels))
        truncated_normal_(self.cluster_centers, std=1.0)
        self.kmax_decoder = nn.ModuleList()
        self.map_of_layer: List[int] = []
        for index, (shape, num_layers) in enumerate(zip(pixel_shapes, spec.num_layers)):
            for _ in range(num_layers):
                layer = KMeansLayer(
                    shape.channels, spec, build_predictor=build_predictor, norm=norm
                )
                self.kmax_decoder.append(nn.ModuleDict({"block1_transformer": layer}))
                self.map_of_layer.append(index)
        self.class_embedding_projection = SequenceConvNormAct(
            spec.channels, spec.channels, norm=norm, activation=_ACTIVATION
        )
        self.mask_embedding_projection = SequenceConvNormAct(
            spec.channels, spec.channels, norm=norm, activation=_ACTIVATION
        )

    def forward(self, maps: Sequence[Tensor]) -> Tuple[Memory, List[Prediction]]:
        """
        Args:
            maps: (N, C, h, w) each, from low to high resolution.

        Returns:
            The slots' features, and the prediction of each layer, at the size of its map.
        """
        centers = self.cluster_centers.transpose(1, 2).expand(maps[0].shape[0], -1, -1)
        predictions = []
        for layer, index in enumerate(self.map_of_layer):
            block: Any = self.kmax_decoder[layer]
            centers, prediction = block["block1_transformer"](maps[index], centers)
            predictions.append(prediction)
        classes = self.class_embedding_projection(centers)
        return Memory(classes, self.mask_embedding_projection(centers)), predictions


def _projection(in_channels: int, out_channels: int, norm: Norm) -> SequenceConvNormAct:
    layer = SequenceConvNormAct(in_channels, out_channels, norm=norm)
    truncated_normal_(layer.conv.weight, std=in_channels**-0.5)
    return layer
