"""
The dual-path transformer layer: a memory path beside the pixel path.

Reference: MaX-DeepLab (arXiv:2012.00759), Sec. 3.2. The memory attends to pixels and memory
together (M2P and M2M in one softmax), then the pixels to the memory (P2M). The pixel path's own
operation (P2P) is the residual block before this layer.

Letters: N images, C channels, P pixels, M memory slots, H heads, L queries, D channels of a head.
"""

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

import torch
from torch import Tensor, nn

from .activation import Activation
from .axis_parts import split_axis
from .drop_path import DropPath
from .initialization import truncated_normal_
from .norm import Norm
from .sequence_convolution import SequenceConvNormAct


@dataclass(frozen=True)
class DualPathSpec:
    """
    A dual-path transformer layer as data.

    Attributes:
        width: base number of channels.
        num_heads: how many.
        bottleneck_expansion, key_expansion, value_expansion: channels over the width.
        feed_forward_channels: inner channels of the memory's feed-forward network; 0 for none.
        use_memory_self_attention: M2M.
        use_pixel_feedback: P2M.
        attention_activation: "softmax" or "sigmoid".
        activation: of the rest.
    """

    width: int = 128
    num_heads: int = 8
    bottleneck_expansion: float = 2.0
    key_expansion: float = 1.0
    value_expansion: float = 2.0
    feed_forward_channels: int = 2048
    use_memory_self_attention: bool = True
    use_pixel_feedback: bool = True
    attention_activation: str = "softmax"
    activation: str = "relu"

    @property
    def key_depth(self) -> int:
        """Channels of queries and of keys, all heads."""
        return int(round(self.width * self.key_expansion))

    @property
    def value_depth(self) -> int:
        """Channels of values, all heads."""
        return int(round(self.width * self.value_expansion))

    def __post_init__(self) -> None:
        for name, depth in (("keys", self.key_depth), ("values", self.value_depth)):
            if depth % self.num_heads:
                raise ValueError(
                    f"channels of {name} must be a multiple of {self.num_heads} heads, got {depth}"
                )


class CrossAttention(nn.Module):
    """Attention of queries to keys and values, with batch norm in place of scaling."""

    def __init__(
        self,
        *,
        num_heads: int,
        value_depth: int,
        activation: str,
        attention_activation: str,
        norm: Norm,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.batch_norm_similarity = norm.build_batch_norm(num_heads)
        self.batch_norm_retrieved_value = norm.build_batch_norm(value_depth, is_biased=True)
        self.attention_activation = Activation(attention_activation)
        self.activation = Activation(activation)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """
        Args:
            query: (N, key_depth, L).
            key: (N, key_depth, P).
            value: (N, value_depth, P).

        Returns:
            (N, value_depth, L).
        """
        query_NHDL, key_NHDP, value_NHDP = (
            split_axis(part, 1, (self.num_heads, -1)) for part in (query, key, value)
        )
        similarity_NHLP = query_NHDL.transpose(-1, -2) @ key_NHDP
        weights_NHLP = self.attention_activation(self.batch_norm_similarity(similarity_NHLP))
        retrieved_NHDL = value_NHDP @ weights_NHLP.transpose(-1, -2)
        retrieved = self.batch_norm_retrieved_value(retrieved_NHDL.flatten(1, 2)[..., None])
        return self.activation(retrieved[..., 0])


class DualPathTransformerLayer(nn.Module):
    """One exchange between the pixel path and the memory path."""

    def __init__(
        self,
        pixel_channels: int,
        memory_channels: int,
        spec: DualPathSpec,
        *,
        norm: Norm,
        drop_path_keep_prob: float = 1.0,
    ):
        super().__init__()
        self.spec = spec
        self.activation = Activation(spec.activation)
        bottleneck = int(round(spec.width * spec.bottleneck_expansion))
        keys, values = spec.key_depth, spec.value_depth
        act = spec.activation
        self.memory_conv1_bn_act = SequenceConvNormAct(
            memory_channels, bottleneck, norm=norm, activation=act
        )
        self.pixel_conv1_bn_act = SequenceConvNormAct(
            pixel_channels, bottleneck, norm=norm, activation=act
        )
        # A path has queries only if it attends, keys and values only if it is attended to.
        self.memory_is_attended = spec.use_memory_self_attention or spec.use_pixel_feedback
        if self.memory_is_attended:
            self.memory_qkv_conv_bn = _projection(bottleneck, 2 * keys + values, norm)
        else:
            self.memory_query_conv_bn = _projection(bottleneck, keys, norm)
        if spec.use_pixel_feedback:
            self.pixel_qkv_conv_bn = _projection(bottleneck, 2 * keys + values, norm)
        else:
            self.pixel_kv_conv_bn = _projection(bottleneck, keys + values, norm)
        attention: Dict[str, Any] = {
            "num_heads": spec.num_heads,
            "value_depth": values,
            "activation": act,
            "attention_activation": spec.attention_activation,
            "norm": norm,
        }
        self.memory_attention = CrossAttention(**attention)
        self.memory_conv3_bn = SequenceConvNormAct(
            values, memory_channels, norm=norm, zero_init_norm=True
        )
        self.has_feed_forward = spec.feed_forward_channels > 0
        if self.has_feed_forward:
            self.memory_ffn_conv1_bn_act = SequenceConvNormAct(
                memory_channels, spec.feed_forward_channels, norm=norm, activation=act
            )
            self.memory_ffn_conv2_bn = SequenceConvNormAct(
                spec.feed_forward_channels, memory_channels, norm=norm, zero_init_norm=True
            )
        if spec.use_pixel_feedback:
            self.pixel_attention = CrossAttention(**attention)
            self.pixel_conv3_bn = SequenceConvNormAct(
                values, pixel_channels, norm=norm, zero_init_norm=True
            )
        self.drop_path = DropPath(drop_path_keep_prob)

    def forward(self, pixels: Tensor, memory: Tensor) -> Tuple[Tensor, Tensor]:
        """
        Args:
            pixels: (N, pixel_channels, h, w), not activated.
            memory: (N, memory_channels, M), activated (or the learned memory itself).

        Returns:
            Both, changed; the pixels not activated, the memory activated.
        """
        sequence = pixels.flatten(2)
        pixel_query, pixel_key, pixel_value = self._pixel_qkv(sequence)
        memory_query, memory_key, memory_value = self._memory_qkv(memory)
        keys, values = pixel_key, pixel_value
        if self.spec.use_memory_self_attention:
            assert memory_key is not None and memory_value is not None
            keys = torch.cat([keys, memory_key], dim=2)
            values = torch.cat([values, memory_value], dim=2)
        update = self.memory_conv3_bn(self.memory_attention(memory_query, keys, values))
        memory = self.activation(memory + self.drop_path(update))
        if self.has_feed_forward:
            update = self.memory_ffn_conv2_bn(self.memory_ffn_conv1_bn_act(memory))
            memory = self.activation(memory + self.drop_path(update))
        if self.spec.use_pixel_feedback:
            update = self.pixel_attention(pixel_query, memory_key, memory_value)
            update = self.drop_path(self.pixel_conv3_bn(update))
            pixels = pixels + update.view_as(pixels)
        return pixels, memory

    def _memory_qkv(self, memory: Tensor) -> Tuple[Tensor, Optional[Tensor], Optional[Tensor]]:
        memory = self.memory_conv1_bn_act(memory)
        if not self.memory_is_attended:
            return self.memory_query_conv_bn(memory), None, None
        return self._split(self.memory_qkv_conv_bn(memory))

    def _pixel_qkv(self, sequence: Tensor) -> Tuple[Optional[Tensor], Tensor, Tensor]:
        sequence = self.pixel_conv1_bn_act(self.activation(sequence))
        if self.spec.use_pixel_feedback:
            return self._split(self.pixel_qkv_conv_bn(sequence))
        sizes = [self.spec.key_depth, self.spec.value_depth]
        key, value = self.pixel_kv_conv_bn(sequence).split(sizes, dim=1)
        return None, key, value

    def _split(self, qkv: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        depth = self.spec.key_depth
        query, key, value = qkv.split([depth, depth, self.spec.value_depth], dim=1)
        return query, key, value


def _projection(in_channels: int, out_channels: int, norm: Norm) -> SequenceConvNormAct:
    layer = SequenceConvNormAct(in_channels, out_channels, norm=norm)
    truncated_normal_(layer.conv.weight, std=in_channels**-0.5)
    return layer
