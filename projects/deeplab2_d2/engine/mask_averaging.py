"""MaX-DeepLab's masks averaged over scales, flips and models, their slots aligned first."""

from typing import Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..layers import resize_align_corners
from ..losses import hungarian_matching
from ..meta_arch import PanopticSegmenter
from ..structures import MaXDeepLabPrediction
from .test_time_averaging import AveragedSegmenter, image_views, scaled_pooling, to_log

# Added to the areas, so that two empty masks have nothing in common.
_EPSILON = 1e-5


@torch.no_grad()
def average_mask_views(
    models: Sequence[PanopticSegmenter],
    images: Tensor,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> MaXDeepLabPrediction:
    """
    Mean prediction over models, scales and horizontal flips.

    The same slot may stand for another object in another view. So each view's slots are matched
    with those of the first view of the first model, by the similarity of MaX-DeepLab's own
    matching (arXiv:2012.00759, Eq. 6: agreement of the classes, void left out, times dice), and
    take their order before probabilities are averaged.

    Args:
        models: with the same classes and number of slots.
        images: (N, 3, H, W), normalised and padded.
        scales: factors on the images' size; the ASPP's pooling window follows.
        flip: add the mirrored images at every scale.

    Returns:
        Means as log-probabilities, of the first view's size, and its pixel features.

    Raises:
        ValueError: if there is no model or no scale, or the numbers of slots differ.
    """
    if not models or not scales:
        raise ValueError("average_mask_views: models and scales must not be empty")
    first: Optional[MaXDeepLabPrediction] = None
    totals: Optional[Tuple[Tensor, ...]] = None
    reference: Optional[Tuple[Tensor, ...]] = None
    count = 0
    for view, is_flipped, scale in image_views(images, scales, flip):
        for model in models:
            with scaled_pooling(model, scale):
                prediction = model.predict(view)
            first = prediction if first is None else first
            _check_slots(first, prediction)
            size = (int(first.mask_logits.shape[-2]), int(first.mask_logits.shape[-1]))
            parts = _probabilities(prediction, size, is_flipped)
            if reference is None or totals is None:
                reference, totals = parts, parts
            else:
                order = match_slots(reference[0], reference[1], parts[0], parts[1])
                parts = tuple(_reorder(part, order) for part in parts[:2]) + parts[2:]
                totals = tuple(total + part for total, part in zip(totals, parts))
            count += 1
    assert first is not None and totals is not None
    means = [to_log(total / count) for total in totals]
    return MaXDeepLabPrediction(
        mask_logits=means[0],
        class_logits=means[1],
        pixel_features=first.pixel_features,
        semantic_logits=means[2] if len(means) > 2 else None,
    )


def _check_slots(first: MaXDeepLabPrediction, other: MaXDeepLabPrediction) -> None:
    expected, found = first.mask_logits.shape[1], other.mask_logits.shape[1]
    if found != expected:
        raise ValueError(
            "models that are averaged must have the same number of mask slots (config key "
            f"MODEL.DEEPLAB2.BACKBONE.MEMORY.NUM_SLOTS), got {expected} and {found}"
        )


def match_slots(
    masks: Tensor, classes: Tensor, other_masks: Tensor, other_classes: Tensor
) -> Tensor:
    """
    The slot of another view that goes with each slot.

    Args:
        masks, other_masks: (N, K, h, w) probabilities.
        classes, other_classes: (N, K, C + 1) probabilities, void last.

    Returns:
        (N, K) int64, a permutation of each image's slots.
    """
    masks, other_masks = masks.flatten(2), other_masks.flatten(2)
    overlap = masks @ other_masks.transpose(1, 2)
    areas = masks.sum(2)[:, :, None] + other_masks.sum(2)[:, None, :]
    agreement = classes[..., :-1] @ other_classes[..., :-1].transpose(1, 2)
    similarity = 2.0 * overlap / (areas + _EPSILON) * agreement
    return hungarian_matching(-similarity, name="costs of matching the slots of two views")


def _probabilities(
    prediction: MaXDeepLabPrediction, size: Tuple[int, int], is_flipped: bool
) -> Tuple[Tensor, ...]:
    """Masks, classes and, if there are any, semantic classes, in the first view's frame."""

    def restore(logits: Tensor) -> Tensor:
        logits = logits.float().flip(3) if is_flipped else logits.float()
        return resize_align_corners(logits, size).softmax(1)

    parts = (restore(prediction.mask_logits), prediction.class_logits.float().softmax(2))
    if prediction.semantic_logits is None:
        return parts
    return parts + (restore(prediction.semantic_logits),)


def _reorder(values: Tensor, order: Tensor) -> Tensor:
    index = order.view(order.shape + (1,) * (values.dim() - 2)).expand_as(values)
    return values.gather(1, index)


class AveragedMaXDeepLab(AveragedSegmenter):
    """MaX-DeepLab's masks averaged at the size of the first view's."""

    def _average(
        self, models: Sequence[PanopticSegmenter], images: Tensor, scales: Sequence[float]
    ) -> MaXDeepLabPrediction:
        return average_mask_views(models, images, scales=scales, flip=self.flip)
