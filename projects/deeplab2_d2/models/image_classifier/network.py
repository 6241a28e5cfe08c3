"""The classifier as a Detectron2 meta architecture."""

from typing import Any, Dict, List, Sequence, Union

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from torch import Tensor, nn

from ...backbones import EndpointBackbone
from ...layers import fast_layout
from ..model_metadata import check_classes

_LAST = ("backbone_output", "res5")


@META_ARCH_REGISTRY.register()
class DeepLab2ImageClassifier(nn.Module):
    """
    Any backbone, the average of its last map, and a linear layer: what ImageNet's networks are.

    Its weights are MODEL.WEIGHTS of every model with the same backbone, the classifier's left out.

    Reference: the class of an image by global average pooling, as in ResNet (arXiv:1512.03385);
    ConvNeXt and MOAT have a layer norm after it.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: EndpointBackbone,
        num_classes: int,
        label_smoothing: float = 0.0,
        dropout: float = 0.0,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        """
        Args:
            backbone: all of it must lead to the map that is averaged.
            num_classes: of the dataset.
            label_smoothing: part of the target that is spread over all classes.
            dropout: probability that an averaged feature is dropped in training.
            pixel_mean, pixel_std: a value for each channel of the images.

        Raises:
            ValueError: for a backbone with parts that no class of an image is computed from.
        """
        super().__init__()
        self.backbone = backbone
        self.feature = _pooled_endpoint(backbone)
        backbone.set_out_features([self.feature])
        channels = backbone.output_shape()[self.feature].channels
        self.classifier = Classifier(
            channels, num_classes, norm_epsilon=backbone.pooled_norm_epsilon, dropout=dropout
        )
        self.label_smoothing = label_smoothing
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        """
        Raises:
            ValueError: for a backbone that is not of this package, or another number of classes
                than the dataset has.
        """
        backbone = build_backbone(cfg)
        if not isinstance(backbone, EndpointBackbone):
            raise ValueError(
                "config key MODEL.BACKBONE.NAME must be 'build_deeplab2_backbone' for "
                f"{cls.__name__}, got {cfg.MODEL.BACKBONE.NAME!r}"
            )
        if any(MetadataCatalog.get(name).get("stuff_classes") for name in cfg.DATASETS.TRAIN):
            check_classes(cfg)
        node = cfg.MODEL.DEEPLAB2.IMAGE_CLASSIFIER
        return {
            "backbone": backbone,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "label_smoothing": node.LABEL_SMOOTHING,
            "dropout": node.DROPOUT,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(
        self, batched_inputs: Sequence[Dict[str, Any]]
    ) -> Union[Dict[str, Tensor], List[Dict[str, Tensor]]]:
        """
        Args:
            batched_inputs: one dict an image: ``image``, (3, H, W), 0 to 255, of one size; in
                training ``class_id``, an int64 scalar.

        Returns:
            In training ``loss_classification``, a float32 scalar. In evaluation one dict an image
            with ``class_scores``, (C,) float32 logits.
        """
        images = torch.stack([sample["image"].to(self.device) for sample in batched_inputs])
        logits = self.logits((images - self.pixel_mean) / self.pixel_std)
        with torch.autocast(self.device.type, enabled=False):
            if not self.training:
                return [{"class_scores": scores} for scores in logits.float()]
            targets = torch.stack([sample["class_id"] for sample in batched_inputs])
            loss = F.cross_entropy(
                logits.float(), targets.to(self.device), label_smoothing=self.label_smoothing
            )
            return {"loss_classification": loss}

    def logits(self, images: Tensor) -> Tensor:
        """
        Args:
            images: (N, C, H, W), normalised.

        Returns:
            (N, classes).
        """
        features: Any = self.backbone(fast_layout(images))
        return self.classifier(features[self.feature])


class Classifier(nn.Module):
    """The average of a map, a layer norm where the network has one, dropout, a 1x1 convolution."""

    def __init__(
        self, channels: int, num_classes: int, *, norm_epsilon: float = 0.0, dropout: float = 0.0
    ):
        """
        Args:
            norm_epsilon: of the layer norm; 0: none.
            dropout: probability that a feature is dropped in training.
        """
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=norm_epsilon) if norm_epsilon > 0 else None
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.logits.weight, std=0.01)
        assert self.logits.bias is not None
        nn.init.zeros_(self.logits.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) to (N, classes)."""
        pooled = features.mean((-2, -1))
        if self.norm is not None:
            pooled = self.norm(pooled)
        return self.logits(self.dropout(pooled)[..., None, None]).flatten(1)


def _pooled_endpoint(backbone: EndpointBackbone) -> str:
    if backbone.memory_shape is not None:
        raise ValueError(
            "config key MODEL.DEEPLAB2.BACKBONE.NAME must be a network without a memory path for a "
            "classifier: max_deeplab_s_backbone and max_deeplab_l_backbone are pretrained for "
            "MaX-DeepLab"
        )
    names = (backbone.pooled_endpoint,) if backbone.pooled_endpoint else _LAST
    found = [name for name in names if name in backbone.endpoint_shapes]
    if backbone.stage_parts and _LAST[0] not in found:
        raise ValueError(
            "config key MODEL.DEEPLAB2.BACKBONE.NAME must be a network whose branches meet, for a "
            "classifier: pretrain hrnet_w48_plus, which has HRNet's classification head, for "
            "hrnet_w48"
        )
    return found[0]
