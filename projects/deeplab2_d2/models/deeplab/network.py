"""The DeepLab line as Detectron2 meta architectures."""

from dataclasses import replace
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Type

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from torch import Tensor, nn

from ...heads import DecoderSpec, shape_of
from ...layers import CellBranch, Norm, resize_align_corners
from ...structures import Prediction
from ..averaging import scale_grid
from ..segmenter import Segmenter
from .classifiers import ClassifierSpec, SummedClassifiers
from .criterion import SemanticCriterion
from .decoders import SemanticDecoder, V3Decoder, V3PlusDecoder
from .inference import SemanticInference


class SemanticDeepLab(Segmenter):
    """
    What the versions share: a backbone, a decoder, cross-entropy, ``sem_seg``.

    Attributes:
        shrinks_labels: see :class:`SemanticCriterion`.
    """

    shrinks_labels = False

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        backbone = build_backbone(cfg)
        norm = replace(Norm.from_config(cfg), epsilon=cfg.MODEL.DEEPLAB2.DEEPLAB.NORM_EPSILON)
        return {
            **super().from_config(cfg),
            "backbone": backbone,
            "head": cls.build_head(cfg, backbone.output_shape(), norm),
            "criterion": SemanticCriterion.from_config(cfg, shrinks_labels=cls.shrinks_labels),
            "inference": SemanticInference.from_config(cfg),
        }

    @classmethod
    def build_head(
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec], norm: Norm
    ) -> SemanticDecoder:
        """The head on the features of a backbone."""
        raise NotImplementedError


class _SummedDeepLab(SemanticDeepLab):
    """
    v1 and v2: classifiers whose scores are summed.

    Attributes:
        default_rates: of the classifiers.
        averages_feature: see :class:`ClassifierSpec`.
    """

    shrinks_labels = True
    default_rates: Tuple[int, ...]
    averages_feature: bool

    @classmethod
    def build_head(
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec], norm: Norm
    ) -> SemanticDecoder:
        node = cfg.MODEL.DEEPLAB2.DEEPLAB
        spec = ClassifierSpec(
            feature=cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER.FEATURE,
            rates=tuple(node.RATES) or cls.default_rates,
            hidden_channels=node.HIDDEN_CHANNELS,
            averages_feature=cls.averages_feature,
            side_features=tuple(node.SIDE_FEATURES),
        )
        return SummedClassifiers(
            input_shape=input_shape, spec=spec, num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        )


@META_ARCH_REGISTRY.register()
class DeepLab2DeepLabV1(_SummedDeepLab):
    """
    A dense classifier at stride 8, with the large field of view of an atrous convolution.

    Reference: DeepLab v1 (arXiv:1412.7062), LargeFOV; numbers as the authors' files have them.
    """

    default_rates = (12,)
    averages_feature = True


@META_ARCH_REGISTRY.register()
class DeepLab2DeepLabV2(_SummedDeepLab):
    """
    The sum of four atrous classifiers, and the maximum over scales of the input.

    Reference: DeepLab v2 (arXiv:1606.00915), Sec. 3; numbers as the authors' files have them.

    Attributes:
        scales: of the input beside 1.
    """

    default_rates = (6, 12, 18, 24)
    averages_feature = False

    @configurable
    def __init__(self, *, scales: Sequence[float] = (), **parts: Any):
        """
        Args:
            scales: of the input beside 1.
            parts: see :class:`Segmenter`.
        """
        super().__init__(**parts)
        self.scales = tuple(scales)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        return {**super().from_config(cfg), "scales": cfg.MODEL.DEEPLAB2.DEEPLAB.INPUT_SCALES}

    @property
    def network(self) -> nn.Sequential:
        if not self.scales:
            return super().network
        return nn.Sequential(_AllScales(self)).train(self.training)

    def predict(self, images: Tensor) -> Prediction:
        """
        See :class:`Segmenter`. In training also ``scale<k>_logits``, of scale 1 and of the others,
        each at its own size if that is a whole fraction of the first's, else enlarged to it.
        """
        prediction = super().predict(images)
        if not self.scales:
            return prediction
        fused = logits = prediction["semantic_logits"]
        parts, size = [logits], (int(logits.shape[-2]), int(logits.shape[-1]))
        for scale in self.scales:
            view = resize_align_corners(images, scale_grid(images.shape[-2:], scale))
            part = super().predict(view)["semantic_logits"]
            enlarged = resize_align_corners(part, size)
            fused = torch.maximum(fused, enlarged)
            parts.append(part if (1.0 / scale).is_integer() else enlarged)
        if not self.training:
            return {"semantic_logits": fused}
        return {
            "semantic_logits": fused,
            **{f"scale{number}_logits": part for number, part in enumerate(parts)},
        }

    def auxiliary_predictions(self, prediction: Prediction) -> List[Prediction]:
        """Those of the single scales, which have losses of their own."""
        names = sorted(set(prediction) - {"semantic_logits"})
        return [{"semantic_logits": prediction[name]} for name in names]


class _AllScales(nn.Module):
    """The whole of a model from images to maps."""

    def __init__(self, model: DeepLab2DeepLabV2):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Prediction:
        return self.model.predict(images)


class _OneDecoder(SemanticDeepLab):
    """v3 and v3+, which differ in their decoder."""

    decoder_class: Type[SemanticDecoder]

    @classmethod
    def build_head(
        cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec], norm: Norm
    ) -> SemanticDecoder:
        node = cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER
        make: Any = cls.decoder_class
        return make(
            input_shape=input_shape,
            decoder=DecoderSpec.from_config(cfg, node, input_shape),
            num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            norm=norm,
            cell=_cell(cfg, shape_of(input_shape, node.FEATURE)),
        )


@META_ARCH_REGISTRY.register()
class DeepLab2DeepLabV3(_OneDecoder):
    """An ASPP and a classifier on the last feature; see :class:`V3Decoder`."""

    decoder_class = V3Decoder


@META_ARCH_REGISTRY.register()
class DeepLab2DeepLabV3Plus(_OneDecoder):
    """An ASPP and a decoder with one low-level feature; see :class:`V3PlusDecoder`."""

    decoder_class = V3PlusDecoder


def _cell(cfg: CfgNode, shape: ShapeSpec) -> List[CellBranch]:
    """Branches of the dense prediction cell, with rates in pixels of a feature."""
    assert shape.stride is not None
    return [
        (source, *(max(1, rate * 16 // shape.stride) for rate in rates))
        for source, *rates in cfg.MODEL.DEEPLAB2.DEEPLAB.CELL
    ]
