"""The three losses of Panoptic-DeepLab at the resolution of the training crop."""

from dataclasses import dataclass
from typing import Dict, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..losses import average_top_k, topk_cross_entropy, topk_l1, topk_mse
from ..ops import upsampled_cross_entropy
from ..structures import ClassMap, PanopticDeepLabPrediction
from .class_map import labels_to_channels

SEMANTIC_TARGETS = ("sem_seg", "sem_seg_weights")
INSTANCE_TARGETS = ("center_heatmap", "center_weights", "center_offsets", "offset_weights")


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
        is_fused: upsample the logits and take their cross-entropy in one operator, which saves the
            memory of the upsampled logits.
    """

    ignore_label: int
    class_map: ClassMap
    semantic: LossTerm
    center: LossTerm
    offset: LossTerm
    is_fused: bool = True

    def __call__(
        self, prediction: PanopticDeepLabPrediction, targets: Mapping[str, Tensor]
    ) -> Dict[str, Tensor]:
        """
        Args:
            prediction: raw outputs, at the decoder's stride; any float type.
            targets: from :func:`stack_targets`; (N, H, W) at the size of the crop.

        Returns:
            ``loss_semantic`` and, unless the model is semantic only, ``loss_center`` and
            ``loss_offset``: float32 scalars, computed in float32 under autocast too.
        """
        with torch.autocast(prediction.semantic_logits.device.type, enabled=False):
            size = targets["sem_seg"].shape[-2:]
            losses = {
                "loss_semantic": self.semantic.weight
                * self._semantic_losses(prediction.semantic_logits, targets).mean()
            }
            if prediction.center_heatmap is None or prediction.center_offsets is None:
                return losses
            losses["loss_center"] = (
                self.center.weight
                * topk_mse(
                    _upsample(prediction.center_heatmap, size),
                    targets["center_heatmap"],
                    targets["center_weights"],
                    top_k_percent=self.center.top_k,
                ).mean()
            )
            losses["loss_offset"] = (
                self.offset.weight
                * topk_l1(
                    _upsample_offsets(prediction.center_offsets, size),
                    targets["center_offsets"],
                    targets["offset_weights"],
                    top_k_percent=self.offset.top_k,
                ).mean()
            )
        return losses

    def _semantic_losses(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """(N,) bootstrapped cross-entropy of each image, before the term's weight."""
        labels = labels_to_channels(targets["sem_seg"], self.class_map, self.ignore_label)
        if self.is_fused:
            losses = upsampled_cross_entropy(
                logits, labels, targets["sem_seg_weights"], ignore_label=self.ignore_label
            )
            return average_top_k(losses, self.semantic.top_k)
        return topk_cross_entropy(
            _upsample(logits, labels.shape[-2:]),
            labels,
            targets["sem_seg_weights"],
            ignore_label=self.ignore_label,
            top_k_percent=self.semantic.top_k,
        )


def _upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps.float(), size=tuple(size), mode="bilinear", align_corners=True)


def _upsample_offsets(offsets: Tensor, size: Sequence[int]) -> Tensor:
    # One pixel of the small map is (size - 1) / (source - 1) pixels of the large one.
    ratios = [
        (target - 1) / (source - 1) if source > 1 else 1.0
        for target, source in zip(size, offsets.shape[-2:])
    ]
    scale = torch.tensor(ratios, dtype=torch.float32, device=offsets.device)
    return _upsample(offsets, size) * scale[:, None, None]


def target_padding(ignore_label: int, *, with_instances: bool) -> Dict[str, float]:
    """The mapper's targets and the values of their padding, which has no loss."""
    names = SEMANTIC_TARGETS + (INSTANCE_TARGETS if with_instances else ())
    return {name: ignore_label if name == "sem_seg" else 0 for name in names}
