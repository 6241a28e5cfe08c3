"""The head of kMaX-DeepLab: both decoders, then MaX-DeepLab's heads."""

from dataclasses import dataclass
from typing import Any, Dict, Mapping

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec

from ...heads import PredictionHead
from ...layers import Norm
from ...structures import Encoded, MemoryShape, Prediction
from ..max_deeplab import MaXDeepLabHead
from ..max_deeplab.head import PIXEL_FEATURE, SEMANTIC_FEATURE
from .pixel_decoder import PixelDecoder, backbone_features
from .transformer_decoder import TransformerDecoder, TransformerSpec

_ACTIVATION = "gelu"
# Of a layer's prediction in the whole one: "auxiliary0/mask_logits".
AUXILIARY = "auxiliary"


class KMaXDeepLabHead(MaXDeepLabHead):
    """
    Features of the backbone to K masks with classes.

    Reference: k-means Mask Transformer (arXiv:2207.04044). The last prediction is MaX-DeepLab's, of
    the pixel decoder's highest resolution; each layer of the transformer decoder has one of its
    own, which assigns the pixels.
    """

    @configurable
    def __init__(
        self, *, pixel_decoder: PixelDecoder, transformer_decoder: TransformerDecoder, **heads: Any
    ):
        """
        Args:
            pixel_decoder: from the backbone's features.
            transformer_decoder: from its maps.
            heads: of :class:`MaXDeepLabHead`.
        """
        super().__init__(**heads)
        self.pixel_decoder = pixel_decoder
        self.transformer_decoder = transformer_decoder
        # In evaluation the layers' predictions are needed for the assignment alone.
        self.has_auxiliary_in_evaluation = False

    @classmethod
    def from_config(  # type: ignore[override]
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec], *, num_classes: int
    ) -> Dict[str, Any]:
        """
        Args:
            cfg: MODEL.DEEPLAB2.KMAX_DEEPLAB, and what :class:`MaXDeepLabHead` reads.
            input_shape: of the backbone's features.
            num_classes: of the dataset.

        Raises:
            ValueError: for a backbone without the features that are read.
        """
        node, norm = cfg.MODEL.DEEPLAB2.KMAX_DEEPLAB, Norm.from_config(cfg)
        features = backbone_features(node.ACTIVATED_FEATURES, node.MASK_STRIDE)
        pixel_decoder = PixelDecoder(
            input_shape,
            features=features,
            widths=node.DECODER_WIDTHS[: len(features)],
            num_blocks=node.DECODER_BLOCKS[: len(features)],
            norm=norm,
            atrous_rate=node.DECODER_ATROUS_RATE,
        )
        spec = TransformerSpec(
            num_layers=tuple(node.TRANSFORMER_LAYERS),
            num_slots=node.NUM_CENTERS,
            channels=node.CENTER_CHANNELS,
            feed_forward_channels=node.CENTER_FEED_FORWARD,
            drop_path_keep_prob=node.CENTER_DROP_PATH,
        )

        heads_node = cfg.MODEL.DEEPLAB2.MAX_DEEPLAB
        build_predictor = LayerPredictor(
            num_classes=num_classes,
            pixel_channels=heads_node.PIXEL_CHANNELS,
            channels=heads_node.PIXEL_HEAD.CHANNELS,
            conv_type=heads_node.PIXEL_CONV_TYPE,
            norm=norm,
        )
        transformer_decoder = TransformerDecoder(
            pixel_decoder.output_shapes, spec, build_predictor=build_predictor, norm=norm
        )
        shapes = {
            **input_shape,
            PIXEL_FEATURE: pixel_decoder.output_shapes[-1],
            SEMANTIC_FEATURE: input_shape[features[0]],
        }
        heads = super().from_config(
            cfg,
            shapes,
            MemoryShape(node.NUM_CENTERS, node.CENTER_CHANNELS, node.CENTER_CHANNELS),
            num_classes=num_classes,
            activation=_ACTIVATION,
            has_semantic_decoder=node.AUXILIARY_DECODER,
        )
        return {
            **heads,
            "pixel_decoder": pixel_decoder,
            "transformer_decoder": transformer_decoder,
        }

    def forward(self, features: Mapping[str, Any]) -> Prediction:  # type: ignore[override]
        """
        Args:
            features: of the backbone.

        Returns:
            As :meth:`MaXDeepLabHead.forward`; in training, or where
            ``has_auxiliary_in_evaluation`` is set, also ``auxiliary<i>/mask_logits`` and so on, of
            the layer ``i``, at the size of its map.
        """
        maps = self.pixel_decoder(features)
        memory, auxiliary = self.transformer_decoder(maps)
        encoded = {
            **features,
            PIXEL_FEATURE: maps[-1],
            SEMANTIC_FEATURE: features[self.pixel_decoder.features[0]],
        }
        prediction = super().forward(Encoded(encoded, memory))
        if self.training or self.has_auxiliary_in_evaluation:
            for index, layer in enumerate(auxiliary):
                for name, values in layer.items():
                    prediction[f"{AUXILIARY}{index}/{name}"] = values
        return prediction


@dataclass(frozen=True)
class LayerPredictor:
    """
    Builds MaX-DeepLab's heads of masks and classes for a layer of the transformer decoder.

    Attributes:
        num_classes, pixel_channels, norm: see :class:`MaXDeepLabHead`.
        channels, conv_type: of the pixels' :class:`PredictionHead`.
    """

    num_classes: int
    pixel_channels: int
    channels: int
    conv_type: str
    norm: Norm

    def __call__(self, pixels: ShapeSpec, memory: MemoryShape) -> MaXDeepLabHead:
        """
        Args:
            pixels: of the layer's map.
            memory: of its centers.
        """
        assert pixels.channels is not None
        return MaXDeepLabHead(
            input_shape={PIXEL_FEATURE: pixels},
            memory_shape=memory,
            num_classes=self.num_classes,
            pixel_head=PredictionHead(
                pixels.channels,
                channels=self.channels,
                out_channels=self.pixel_channels,
                conv_type=self.conv_type,
                norm=self.norm,
                activation=_ACTIVATION,
            ),
            pixel_channels=self.pixel_channels,
            norm=self.norm,
        )
