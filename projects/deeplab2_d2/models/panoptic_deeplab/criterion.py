"""The three losses of Panoptic-DeepLab at the resolution of the training crop."""

from dataclasses import dataclass
from typing import Dict, Mapping, Sequence, Tuple

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...losses import average_top_k, topk_binary_cross_entropy, topk_l1, topk_mse
from ...ops import upsampled_cross_entropy
from ...postprocessing.maps import resize_map
from ...structures import ClassMap, Prediction
from ..class_map import class_map_from_config
from ..target_batch import Padding

SEMANTIC_TARGETS = ("sem_seg", "sem_seg_weights")
INSTANCE_TARGETS = ("center_heatmap", "center_weights", "center_offsets", "offset_weights")
# Errors of the center heatmap, by their names in configs.
CENTER_ERRORS = {"squared": topk_mse, "cross_entropy": topk_binary_cross_entropy}


@dataclass(frozen=True)
class LossTerm:
    """
    Attributes:
        weight: factor on the term.
        top_k: part of an image's elements, the largest losses, that is averaged: (0, 1].
    """

    weight: float
    top_k: float = 1.0


@dataclass(frozen=True)
class PanopticDeepLabCriterion:
    """
    Weighted losses between raw predictions and a mapper's targets.

    Reference: Panoptic-DeepLab (arXiv:1911.10194), Sec. 3, Eq. 1. As in DeepLab2, predictions are
    brought to the crop's size first (bilinear, aligned corners, offsets rescaled), every loss is
    averaged over an image's non-zero elements, then over the images.

    Attributes:
        ignore_label: semantic label without a loss.
        class_map: classes of the semantic channels.
        semantic, center, offset: weight and top-k part of each term.
        has_instances: False for a semantic-only model.
        center_error: of :data:`CENTER_ERRORS`.
    """

    ignore_label: int
    class_map: ClassMap
    semantic: LossTerm
    center: LossTerm
    offset: LossTerm
    has_instances: bool = True
    center_error: str = "squared"

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "PanopticDeepLabCriterion":
        loss = cfg.MODEL.DEEPLAB2.LOSS
        return cls(
            ignore_label=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            class_map=class_map_from_config(cfg),
            semantic=LossTerm(*loss.SEMANTIC),
            center=LossTerm(*loss.CENTER),
            offset=LossTerm(*loss.OFFSET),
            has_instances=cfg.MODEL.DEEPLAB2.INSTANCE_ENABLED,
            center_error=loss.CENTER_ERROR,
        )

    @property
    def target_padding(self) -> Dict[str, Padding]:
        """The targets that are needed, and the values of their padding, which has no loss."""
        names = SEMANTIC_TARGETS + (INSTANCE_TARGETS if self.has_instances else ())
        return {name: self.ignore_label if name == "sem_seg" else 0 for name in names}

    def __call__(
        self,
        predictions: Sequence[Prediction],
        targets: Mapping[str, Tensor],
        sources: Sequence[str] = (),
    ) -> Tuple[Dict[str, Tensor], Dict[str, Tensor]]:
        """
        Args:
            predictions: raw outputs, at the decoder's stride, any float type: the one there is.
            targets: from :func:`stack_targets`, at the size of the crop: ``sem_seg`` (N, H, W)
                int64, ``center_heatmap`` (N, 1, H, W), ``center_offsets`` (N, 2, H, W), the three
                weights (N, H, W); float32.
            sources: not used.

        Returns:
            ``loss_semantic`` and, unless the model is semantic only, ``loss_center`` and
            ``loss_offset``: float32 scalars, computed in float32 under autocast too. No metrics.
        """
        (prediction,) = predictions
        logits = prediction["semantic_logits"]
        with torch.autocast(logits.device.type, enabled=False):
            height, width = targets["sem_seg"].shape[-2:]
            losses = {
                "loss_semantic": self.semantic.weight
                * self._semantic_losses(logits, targets).mean()
            }
            if not self.has_instances:
                return losses, {}
            heatmap = prediction["center_heatmap"].float()
            losses["loss_center"] = (
                self.center.weight
                * CENTER_ERRORS[self.center_error](
                    resize_map(heatmap, "heatmap", (height, width)),
                    targets["center_heatmap"],
                    targets["center_weights"],
                    top_k_percent=self.center.top_k,
                ).mean()
            )
            losses["loss_offset"] = offset_loss(
                prediction["center_offsets"],
                targets["center_offsets"],
                targets["offset_weights"],
                self.offset,
            )
        return losses, {}

    def _semantic_losses(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """(N,) bootstrapped cross-entropy of each image, before the term's weight."""
        labels = self.class_map.to_channels(targets["sem_seg"], self.ignore_label)
        losses = upsampled_cross_entropy(
            logits, labels, targets["sem_seg_weights"], ignore_label=self.ignore_label
        )
        return average_top_k(losses, self.semantic.top_k)


def offset_loss(offsets: Tensor, target: Tensor, weights: Tensor, term: LossTerm) -> Tensor:
    """
    The weighted absolute error of offsets, at the size of the targets.

    Args:
        offsets: (N, 2, h, w), in pixels of this map.
        target: (N, 2, H, W), in pixels of the crop.
        weights: (N, H, W).
        term: weight and top-k part.

    Returns:
        a float32 scalar, computed in float32 under autocast too.
    """
    height, width = target.shape[-2:]
    with torch.autocast(offsets.device.type, enabled=False):
        resized = resize_map(offsets.float(), "offset", (height, width))
        return term.weight * topk_l1(resized, target, weights, top_k_percent=term.top_k).mean()


@dataclass(frozen=True)
class OffsetCriterion:
    """
    The loss of further offsets beside those of :class:`PanopticDeepLabCriterion`.

    Attributes:
        name: of the map in the prediction, and of its target.
        weights: name of the target's weights.
        loss: name of the loss.
        term: its weight and top-k part.
    """

    name: str
    weights: str
    loss: str
    term: LossTerm

    @property
    def target_padding(self) -> Dict[str, Padding]:
        """See :class:`PanopticDeepLabCriterion`."""
        return {self.name: 0, self.weights: 0}

    def __call__(
        self,
        predictions: Sequence[Prediction],
        targets: Mapping[str, Tensor],
        sources: Sequence[str] = (),
    ) -> Tuple[Dict[str, Tensor], Dict[str, Tensor]]:
        """
        Args:
            predictions: the one there is, with (N, 2, h, w) offsets in pixels of that map.
            targets: (N, 2, H, W) offsets and (N, H, W) weights, in pixels of the crop.
            sources: not used.

        Returns:
            the loss, a float32 scalar; no metrics.
        """
        (prediction,) = predictions
        target, weights = targets[self.name], targets[self.weights]
        return {self.loss: offset_loss(prediction[self.name], target, weights, self.term)}, {}
