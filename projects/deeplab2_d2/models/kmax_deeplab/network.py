"""kMaX-DeepLab as a Detectron2 meta architecture."""

from typing import Any, Dict, List, Tuple

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone

from ...backbones import EndpointBackbone
from ...layers import resize_align_corners
from ...structures import Prediction
from ..class_map import class_map_from_config
from ..max_deeplab import MaXDeepLabInference
from ..segmenter import Segmenter
from .criterion import criterion_from_config
from .head import AUXILIARY, KMaXDeepLabHead
from .pixel_decoder import backbone_features

# Of a layer's prediction; classes have no pixels.
_MAPS = ("mask_logits", "pixel_features")


@META_ARCH_REGISTRY.register()
class DeepLab2KMaXDeepLab(Segmenter):
    """
    Panoptic segmentation by a mask transformer whose cross-attention is a step of k-means.

    Reference: k-means Mask Transformer (arXiv:2207.04044); numbers as DeepLab2 computes them. Any
    backbone with features before their activation does: the residual networks, ConvNeXt, MOAT.
    Training, post-processing, targets and averaging are MaX-DeepLab's.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        backbone, head = cls.build_network(cfg)
        return {
            **super().from_config(cfg),
            "backbone": backbone,
            "head": head,
            "criterion": criterion_from_config(cfg),
            "inference": MaXDeepLabInference.from_config(cfg),
        }

    @staticmethod
    def build_network(cfg: CfgNode) -> Tuple[EndpointBackbone, KMaXDeepLabHead]:
        """
        Backbone and head.

        Raises:
            ValueError: for a backbone without the features that the decoder reads.
        """
        backbone = build_backbone(cfg)
        if not isinstance(backbone, EndpointBackbone):
            raise ValueError(
                "kMaX-DeepLab must have a backbone of this package (config key "
                "MODEL.BACKBONE.NAME build_deeplab2_backbone), got "
                f"{type(backbone).__name__}"
            )
        # In the order of the network, so that what is built does not depend on a set's.
        node = cfg.MODEL.DEEPLAB2.KMAX_DEEPLAB
        read = backbone_features(node.ACTIVATED_FEATURES, node.MASK_STRIDE)
        wanted = {*read, *backbone.output_shape()}
        backbone.set_out_features([name for name in backbone.endpoint_shapes if name in wanted])
        num_classes = class_map_from_config(cfg).num_classes
        head = KMaXDeepLabHead(cfg, backbone.output_shape(), num_classes=num_classes)
        return backbone, head

    def auxiliary_predictions(self, prediction: Prediction) -> List[Prediction]:
        """The layers' predictions, their maps at the size of the final masks."""
        size = prediction["mask_logits"].shape[-2:]
        layers: Dict[str, Prediction] = {}
        for name, values in prediction.items():
            layer, _, part = name.partition("/")
            if not layer.startswith(AUXILIARY):
                continue
            if part in _MAPS:
                values = resize_align_corners(values, (int(size[0]), int(size[1])))
            layers.setdefault(layer, {})[part] = values
        return list(layers.values())
