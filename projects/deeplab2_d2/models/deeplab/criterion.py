"""The losses of the DeepLab line: cross-entropy at the labels' or at the scores' resolution."""

from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Sequence, Tuple

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...losses import average_top_k
from ...ops import upsampled_cross_entropy
from ...structures import ClassMap, Prediction
from ..class_map import class_map_from_config
from ..target_batch import Padding


@dataclass
class SemanticCriterion:
    """
    The mean cross-entropy over the pixels of a batch that have a label.

    v3 and v3+ enlarge the scores to the labels' size (corners on corners); v1 and v2 shrink the
    labels to the scores' grid, that is, take every 8th pixel. Of a part the hardest pixels of the
    whole batch count, as in Google's release of v3+ (DeepLab2 takes those of each image), averaged
    over those whose loss is not zero.

    Attributes:
        ignore_label: label without a loss.
        class_map: classes of the semantic channels.
        weight: factor on every loss.
        top_k: part of the pixels, the largest losses, that counts: (0, 1].
        class_weights: factor on the loss of a pixel by the channel of its label, before the hardest
            are chosen; (): 1 for all. Without a choice of pixels the mean is weighted, too: its
            divisor is the sum of the pixels' factors.
        shrinks_labels: as v1 and v2.
        hard_after: iterations in which the part falls, evenly, from 1 to ``top_k``.
        iteration: of the training, which :meth:`follow` is told.
    """

    ignore_label: int
    class_map: ClassMap
    weight: float = 1.0
    top_k: float = 1.0
    class_weights: Tuple[float, ...] = ()
    shrinks_labels: bool = False
    hard_after: int = 0
    iteration: int = 0

    @classmethod
    def from_config(cls, cfg: CfgNode, *, shrinks_labels: bool) -> "SemanticCriterion":
        weight, top_k = cfg.MODEL.DEEPLAB2.LOSS.SEMANTIC
        return cls(
            ignore_label=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            class_map=class_map_from_config(cfg),
            weight=weight,
            top_k=top_k,
            class_weights=tuple(map(float, cfg.MODEL.DEEPLAB2.DEEPLAB.CLASS_WEIGHTS)),
            shrinks_labels=shrinks_labels,
            hard_after=cfg.MODEL.DEEPLAB2.DEEPLAB.HARD_PIXELS_AFTER,
        )

    def follow(self, iteration: int, max_iter: int) -> None:
        """Take note of how far a training is; its trainer calls this before every step."""
        self.iteration = iteration

    @property
    def kept(self) -> float:
        """The part that counts now."""
        progress = min(1.0, self.iteration / self.hard_after) if self.hard_after else 1.0
        return 1.0 - progress * (1.0 - self.top_k)

    @property
    def target_padding(self) -> Dict[str, Padding]:
        """The target that is needed, and the value of its padding, which has no loss."""
        return {"sem_seg": self.ignore_label}

    def __call__(
        self,
        predictions: Sequence[Prediction],
        targets: Mapping[str, Tensor],
        sources: Sequence[str] = (),
    ) -> Tuple[Dict[str, Tensor], Dict[str, Tensor]]:
        """
        Args:
            predictions: the final one, then those of the scales it is fused of; each has
                ``semantic_logits`` (N, C, h, w).
            targets: ``sem_seg``, (N, H, W) int64.
            sources: not used.

        Returns:
            ``loss_semantic`` and, of the k-th further prediction, ``loss_semantic_scale<k>``, from
            0: float32 scalars. No metrics.
        """
        labels = self.class_map.to_channels(targets["sem_seg"], self.ignore_label)
        losses = {}
        for number, prediction in enumerate(predictions, start=-1):
            name = "loss_semantic" if number < 0 else f"loss_semantic_scale{number}"
            logits = prediction["semantic_logits"]
            with torch.autocast(logits.device.type, enabled=False):
                losses[name] = self.weight * self._mean(logits, labels)
        return losses, {}

    def _mean(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.shrinks_labels:
            labels = _shrink(labels, logits)
        weights = self._pixel_weights(labels)
        pixels = upsampled_cross_entropy(logits, labels, weights, ignore_label=self.ignore_label)
        if self.top_k < 1.0:
            return average_top_k(pixels.view(1, -1), self.kept)[0]
        if weights is None:
            return pixels.sum() / (labels != self.ignore_label).sum().clamp(min=1)
        total = weights.sum()
        return pixels.sum() / torch.where(total > 0, total, 1.0)

    def _pixel_weights(self, labels: Tensor) -> Optional[Tensor]:
        """(N, H, W) float32, 0 where the label is ignored; None without class weights."""
        if not self.class_weights:
            return None
        table = torch.tensor(self.class_weights, device=labels.device)
        has_label = labels != self.ignore_label
        return table[torch.where(has_label, labels, 0)] * has_label


def _shrink(maps: Tensor, logits: Tensor) -> Tensor:
    """(N, H, W) at the pixels that the scores (N, C, h, w) are centered on."""
    (height, width), (rows, columns) = maps.shape[-2:], logits.shape[-2:]
    steps = [
        (large - 1) // (small - 1) if small > 1 else large
        for large, small in ((height, rows), (width, columns))
    ]
    if (rows - 1) * steps[0] + 1 != height or (columns - 1) * steps[1] + 1 != width:
        raise ValueError(
            "labels must be of 1 + a multiple of the stride of the scores in both sides, got "
            f"{(height, width)} for scores of {(rows, columns)}"
        )
    return maps[:, :: steps[0], :: steps[1]]
