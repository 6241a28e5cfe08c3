"""The losses of MaX-DeepLab, at the resolution of its masks."""

from dataclasses import dataclass
from typing import Dict, Mapping, Tuple

import torch
from torch import Tensor

from ..losses import (
    MaskTargets,
    build_mask_targets,
    instance_discrimination_loss,
    mask_losses,
    match_masks,
    pixel_contrastive_loss,
    topk_cross_entropy,
)
from ..structures import ClassMap, MaXDeepLabPrediction
from .class_map import labels_to_channels
from .panoptic_deeplab_criterion import LossTerm

# The mapper's maps that the losses take, and the values of their padding.
PADDING = {"sem_seg_weights": 0.0, "thing_masks": -1}


@dataclass(frozen=True)
class InstanceDiscrimination:
    """
    Attributes:
        term: weight and top-k part.
        temperature: divides the similarities (tau).
        num_samples: pixels drawn of each image; 0: all pixels of things, as in the paper.
        sample_temperature: above 1 draws even more of small masks.
    """

    term: LossTerm
    temperature: float = 0.3
    num_samples: int = 0
    sample_temperature: float = 0.6


@dataclass(frozen=True)
class MaXDeepLabCriterion:
    """
    Matching of slots and ground truth masks, and the weighted losses that follow.

    Reference: MaX-DeepLab (arXiv:2012.00759), Sec. 3.1 and 3.4, as DeepLab2 computes them: labels
    are sampled to the masks' resolution, every loss is averaged over the images.

    Attributes:
        ignore_label: semantic label without a loss.
        class_map: classes of the auxiliary semantic channels.
        thing_ids, stuff_ids: contiguous ids of the dataset, ascending; the class head's channels
            are the things, then the stuff.
        pq_style_weight: of the PQ-style loss.
        alpha: part of matched slots in it, against unmatched ones.
        similarity: of the matching, see :func:`match_masks`.
        mask_id: weight and top-k part of the mask-ID cross-entropy.
        instance_discrimination: that loss.
        semantic: weight and top-k part of the auxiliary cross-entropy.
    """

    ignore_label: int
    class_map: ClassMap
    thing_ids: Tuple[int, ...]
    stuff_ids: Tuple[int, ...]
    pq_style_weight: float = 3.0
    alpha: float = 0.75
    similarity: str = "product"
    mask_id: LossTerm = LossTerm(0.3)
    instance_discrimination: InstanceDiscrimination = InstanceDiscrimination(LossTerm(1.0))
    semantic: LossTerm = LossTerm(1.0)

    def __call__(
        self, prediction: MaXDeepLabPrediction, targets: Mapping[str, Tensor]
    ) -> Dict[str, Tensor]:
        """
        Args:
            prediction: raw outputs, any float type.
            targets: ``sem_seg``, ``sem_seg_weights`` and ``thing_masks``, (N, H, W), and
                ``thing_classes``, (N, T), of :class:`MaXDeepLabDatasetMapper`. The masks' size
                is a stride of (H, W).

        Returns:
            ``loss_pq_class``, ``loss_pq_mask``, ``loss_mask_id``,
            ``loss_instance_discrimination`` and ``loss_semantic``, as far as they have a weight:
            float32 scalars, computed in float32 under autocast too.
        """
        height, width = prediction.mask_logits.shape[-2:]
        masks = build_mask_targets(
            targets["sem_seg"],
            targets["thing_masks"],
            targets["thing_classes"],
            size=(int(height), int(width)),
            thing_ids=self.thing_ids,
            stuff_ids=self.stuff_ids,
            ignore_label=self.ignore_label,
        )
        with torch.autocast(prediction.mask_logits.device.type, enabled=False):
            losses = self._mask_losses(prediction, masks)
            if self.instance_discrimination.term.weight:
                losses["loss_instance_discrimination"] = self._discriminate(prediction, masks)
            if self.semantic.weight and prediction.semantic_logits is not None:
                losses["loss_semantic"] = self.semantic.weight * topk_cross_entropy(
                    prediction.semantic_logits,
                    labels_to_channels(targets["sem_seg"], self.class_map, self.ignore_label),
                    targets["sem_seg_weights"],
                    ignore_label=self.ignore_label,
                    top_k_percent=self.semantic.top_k,
                )
        return {name: loss.mean() for name, loss in losses.items()}

    def _mask_losses(
        self, prediction: MaXDeepLabPrediction, masks: MaskTargets
    ) -> Dict[str, Tensor]:
        mask_logits = prediction.mask_logits.flatten(2)
        matching = match_masks(
            masks,
            mask_logits.detach().float().softmax(1),
            prediction.class_logits,
            similarity=self.similarity,
        )
        terms = mask_losses(
            mask_logits,
            prediction.class_logits,
            masks,
            matching,
            alpha=self.alpha,
            mask_id_top_k=self.mask_id.top_k,
        )
        losses = {}
        if self.pq_style_weight:
            losses["loss_pq_class"] = self.pq_style_weight * terms.class_term
            losses["loss_pq_mask"] = self.pq_style_weight * terms.mask_term
        if self.mask_id.weight:
            losses["loss_mask_id"] = self.mask_id.weight * terms.mask_id
        return losses

    def _discriminate(self, prediction: MaXDeepLabPrediction, masks: MaskTargets) -> Tensor:
        options = self.instance_discrimination
        features = prediction.pixel_features.flatten(2)
        if options.num_samples:
            losses = pixel_contrastive_loss(
                features,
                masks,
                num_samples=options.num_samples,
                sample_temperature=options.sample_temperature,
                temperature=options.temperature,
                top_k_percent=options.term.top_k,
            )
        else:
            losses = instance_discrimination_loss(
                features,
                masks,
                temperature=options.temperature,
                top_k_percent=options.term.top_k,
            )
        return options.term.weight * losses
