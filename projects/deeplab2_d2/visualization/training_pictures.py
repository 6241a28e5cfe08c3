"""Predictions beside their targets, for the log of a training run."""

from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..structures import PanopticDeepLabPrediction
from .panoptic_deeplab import Panoptic, draw_panoptic_overlay
from .pictures import draw_heatmap, draw_image, draw_offsets, draw_semantic, overlay
from .sheets import sheet


def training_pictures(
    sample: Mapping[str, Any],
    prediction: PanopticDeepLabPrediction,
    *,
    colors: np.ndarray,
    panoptic: Optional[Tuple[Panoptic, Panoptic]] = None,
) -> Dict[str, np.ndarray]:
    """
    Pictures of one training sample: the target on the left, the prediction on the right.

    Args:
        sample: of the mapper: ``image``, ``sem_seg`` and, with instances, ``center_heatmap``,
            ``center_offsets`` and ``offset_weights``.
        prediction: raw head outputs of a batch whose first image is the sample.
        colors: (C, 3) RGB by contiguous class id.
        panoptic: segmentations (ground truth, prediction) of the sample, as ``panoptic_seg``.

    Returns:
        (3, H, W) uint8 RGB pictures for Detectron2's ``EventStorage.put_image``: "semantic", and as
        far as there is something to show "center_heatmap", "center_offsets" and "panoptic".
    """
    image = draw_image(sample["image"])
    size = image.shape[:2]
    classes = _resize(prediction.semantic_logits, size).argmax(0)
    pictures = {
        "semantic": [
            overlay(image, draw_semantic(labels, colors)) for labels in (sample["sem_seg"], classes)
        ]
    }
    if prediction.center_heatmap is not None and "center_heatmap" in sample:
        heatmap = _resize(prediction.center_heatmap, size)
        pictures["center_heatmap"] = [
            draw_heatmap(values) for values in (sample["center_heatmap"], heatmap)
        ]
    if prediction.center_offsets is not None and "center_offsets" in sample:
        # Their unit does not matter: each picture is scaled to its own longest offset.
        offsets = _resize(prediction.center_offsets, size)
        mask = sample["offset_weights"] > 0
        pictures["center_offsets"] = [
            draw_offsets(values, mask=mask) for values in (sample["center_offsets"], offsets)
        ]
    if panoptic is not None:
        pictures["panoptic"] = [
            draw_panoptic_overlay(image, segmentation, colors) for segmentation in panoptic
        ]
    return {name: sheet([pair]).transpose(2, 0, 1) for name, pair in pictures.items()}


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """The first image's maps, (C, H, W), at another size."""
    first = maps[:1].detach().float()
    return F.interpolate(first, size=tuple(size), mode="bilinear", align_corners=True)[0].cpu()
