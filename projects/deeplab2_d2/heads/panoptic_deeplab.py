"""The decoders and heads of Panoptic-DeepLab."""

from typing import Any, Dict, Mapping, Optional

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..layers import Norm
from ..structures import PanopticDeepLabPrediction
from .decoder import PanopticDeepLabDecoder
from .prediction_head import PredictionHead


class PanopticDeepLabHead(nn.Module):
    """
    Features to semantic logits, center heatmap and center offsets.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3.1 and 3.2. The instance parts are None
    for a semantic-only model.
    """

    @configurable
    def __init__(
        self,
        *,
        semantic_decoder: PanopticDeepLabDecoder,
        semantic_head: PredictionHead,
        instance_decoder: Optional[PanopticDeepLabDecoder] = None,
        center_head: Optional[PredictionHead] = None,
        offset_head: Optional[PredictionHead] = None,
    ):
        """
        Raises:
            ValueError: if only some of the instance parts are given.
        """
        super().__init__()
        instance_parts = (instance_decoder, center_head, offset_head)
        if len({part is None for part in instance_parts}) != 1:
            raise ValueError(
                "instance_decoder, center_head and offset_head must be given all or not at all"
            )
        self.semantic_decoder = semantic_decoder
        self.semantic_head = semantic_head
        self.instance_decoder = instance_decoder
        self.center_head = center_head
        self.offset_head = offset_head

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> Dict[str, Any]:
        node = cfg.MODEL.DEEPLAB2
        decoder = PanopticDeepLabDecoder(
            **PanopticDeepLabDecoder.options_from_config(cfg, node.SEMANTIC_DECODER, input_shape)
        )
        norm = Norm.from_config(cfg)

        def head(options: CfgNode, in_channels: int, out_channels: int) -> PredictionHead:
            return PredictionHead(
                in_channels,
                channels=options.CHANNELS,
                out_channels=out_channels,
                conv_type=options.CONV_TYPE,
                norm=norm,
            )

        num_classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        parts: Dict[str, Any] = {
            "semantic_decoder": decoder,
            "semantic_head": head(node.SEMANTIC_HEAD, decoder.out_channels, num_classes),
        }
        if node.INSTANCE_ENABLED:
            decoder = PanopticDeepLabDecoder(
                **PanopticDeepLabDecoder.options_from_config(
                    cfg, node.INSTANCE_DECODER, input_shape
                )
            )
            parts["instance_decoder"] = decoder
            parts["center_head"] = head(node.CENTER_HEAD, decoder.out_channels, 1)
            parts["offset_head"] = head(node.OFFSET_HEAD, decoder.out_channels, 2)
        return parts

    @property
    def has_instance_branch(self) -> bool:
        """Whether centers and offsets are predicted."""
        return self.instance_decoder is not None

    def forward(self, features: Mapping[str, Tensor]) -> PanopticDeepLabPrediction:
        """
        Args:
            features: name to (N, C, h, w), as in ``input_shape``.

        Returns:
            Raw outputs of the size of each decoder's last low-level feature (stride 4).
        """
        semantic_logits = self.semantic_head(self.semantic_decoder(features))
        if self.instance_decoder is None or self.center_head is None or self.offset_head is None:
            return PanopticDeepLabPrediction(semantic_logits=semantic_logits)
        decoded = self.instance_decoder(features)
        return PanopticDeepLabPrediction(
            semantic_logits=semantic_logits,
            center_heatmap=self.center_head(decoded),
            center_offsets=self.offset_head(decoded),
        )
