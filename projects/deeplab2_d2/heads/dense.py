"""Prediction heads as data: a list of specifications gives a dict of maps."""

from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Sequence, Tuple

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..layers import Norm, resize_align_corners
from ..structures import MapKind, Prediction
from .decoder import Decoder, DecoderSpec
from .prediction_head import PredictionHead


@dataclass(frozen=True)
class HeadSpec:
    """
    A head as data.

    Attributes:
        name: of its map in the prediction.
        kind: how the map's values behave, see :data:`MapKind`.
        out_channels: of the map.
        module: attribute that holds the head, so the first word of its parameters.
        decoder: attribute that holds the decoder it reads.
        channels: of the convolution before the last.
        conv_type: of that convolution, see :func:`build_conv`.
        upsampling: factor by which the decoder's features are enlarged first.
        value_range: bounds onto which a sigmoid brings the map's values; None leaves them.
    """

    name: str
    kind: MapKind
    out_channels: int
    module: str
    decoder: str
    channels: int
    conv_type: str = "depthwise_separable_conv"
    upsampling: int = 1
    value_range: Optional[Tuple[float, float]] = None

    def enlarge(self, features: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C, (h - 1) * upsampling + 1, ...), corners on corners."""
        if self.upsampling == 1:
            return features
        height, width = ((side - 1) * self.upsampling + 1 for side in features.shape[-2:])
        return resize_align_corners(features, (height, width))

    def activate(self, maps: Tensor) -> Tensor:
        """Values within ``value_range``, then at least float32."""
        if self.value_range is None:
            return maps
        lowest, highest = self.value_range
        # bfloat16 has steps of half a meter at 88 m; in float16 a small sigmoid is 0.
        maps = maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps
        return lowest + maps.sigmoid() * (highest - lowest)


class DenseHeads(nn.Module):
    """
    Decoders and the heads on them.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3.1 and 3.2.

    Attributes:
        kinds: name of each map to its kind, in the order of the heads.
        new_parts: see below.
    """

    def __init__(
        self,
        decoders: Mapping[str, DecoderSpec],
        heads: Sequence[HeadSpec],
        input_shape: Mapping[str, ShapeSpec],
        *,
        norm: Norm,
        new_parts: Sequence[str] = (),
    ):
        """
        Args:
            decoders: attribute that holds each decoder, and what it is made of.
            heads: in this order.
            input_shape: of the backbone's features.
            new_parts: modules without which weights are a start, see :func:`new_names`.

        Raises:
            ValueError: for a head without its decoder, a decoder that no head reads, a name given
                twice, a feature that is not in ``input_shape``, or an ASPP of a decoder that has
                none.
        """
        super().__init__()
        read = {head.decoder for head in heads}
        if read != set(decoders):
            raise ValueError(f"heads must read the decoders {sorted(decoders)}, got {sorted(read)}")
        if len({head.name for head in heads}) < len(heads):
            raise ValueError(f"names of heads must differ, got {[head.name for head in heads]}")
        for name, spec in decoders.items():
            if spec.aspp_of is not None and decoders.get(spec.aspp_of, spec).aspp_of is not None:
                raise ValueError(f"aspp_of of {name} must be a decoder with an ASPP, got {spec}")
        self.heads = tuple(heads)
        self.new_parts = tuple(new_parts)
        self.kinds: Dict[str, MapKind] = {head.name: head.kind for head in heads}
        for head in heads:
            if not hasattr(self, head.decoder):
                decoder = Decoder(decoders[head.decoder], input_shape, norm=norm)
                self.add_module(head.decoder, decoder)
            prediction_head = PredictionHead(
                getattr(self, head.decoder).out_channels,
                channels=head.channels,
                out_channels=head.out_channels,
                conv_type=head.conv_type,
                norm=norm,
            )
            self.add_module(head.module, prediction_head)

    def forward(
        self, features: Mapping[str, Tensor], names: Optional[Sequence[str]] = None
    ) -> Prediction:
        """
        Args:
            features: name to (N, C, h, w), as in ``input_shape``.
            names: of the heads that are wanted; None: all.

        Returns:
            Name of each head to (N, out_channels, h, w), of the size of its decoder's last
            low-level feature (stride 4) times its upsampling.
        """
        contexts: Dict[str, Tensor] = {}
        decoded: Dict[str, Tensor] = {}
        prediction: Prediction = {}
        for head in self.heads:
            if names is not None and head.name not in names:
                continue
            if head.decoder not in decoded:
                decoded[head.decoder] = self._decode(head.decoder, features, contexts)
            maps = getattr(self, head.module)(head.enlarge(decoded[head.decoder]))
            prediction[head.name] = head.activate(maps)
        return prediction

    def _decode(
        self, name: str, features: Mapping[str, Tensor], contexts: Dict[str, Tensor]
    ) -> Tensor:
        """What a decoder makes of the features; ``contexts`` has the ASPPs' outputs so far."""
        decoder = getattr(self, name)
        source = decoder.aspp_of or name
        if source not in contexts:
            owner = getattr(self, source)
            contexts[source] = owner.aspp(features[owner.feature])
        return decoder(features, contexts[source])
