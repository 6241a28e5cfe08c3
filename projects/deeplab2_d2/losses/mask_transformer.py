"""All losses of a mask transformer, with their weights."""

from dataclasses import dataclass
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .cross_entropy import topk_cross_entropy
from .mask_losses import mask_losses, matching_metrics
from .mask_matching import MaskMatching, MaskOverlaps, match_masks, measure_overlaps
from .mask_targets import MaskTargets, limit_masks
from .pixel_contrast import discriminate_instances, pixel_contrastive_loss, recognition_metric
from .topk import average_top_k

Terms = Dict[str, Tensor]


@dataclass(frozen=True)
class MaskTransformerLossOptions:
    """
    The defaults are those of MaX-DeepLab (arXiv:2012.00759), Sec. 4, and where the paper is silent
    or differs, as in ``unmatched_weight``, those of DeepLab2. A weight of 0 leaves a term out,
    uncomputed: so are the rows of the paper's Table 6.

    Attributes:
        pq_style_weight: of the PQ-style loss.
        alpha: part of matched slots in it, against unmatched ones.
        similarity, unmatched_weight: of the matching, see :func:`match_masks`.
        surplus_masks: see :func:`limit_masks`.
        match_auxiliary: match every auxiliary output by itself; else all have the matching of the
            final one, as in DeepLab2.
        mask_id_weight: of the mask-ID cross-entropy.
        instance_discrimination_weight: of that loss.
        temperature: divides its similarities (tau).
        num_samples: pixels that it draws of each image; 0: all pixels of things, as in the paper.
        sample_temperature: above 1 draws even more of small masks.
        semantic_weight: of the auxiliary semantic cross-entropy.
        mask_id_top_k, instance_discrimination_top_k, semantic_top_k: fraction of an image's pixels
            (or samples) that a loss keeps.
    """

    pq_style_weight: float = 3.0
    alpha: float = 0.75
    similarity: str = "product"
    unmatched_weight: str = "void_ratio"
    surplus_masks: str = "unmatched"
    match_auxiliary: bool = False
    mask_id_weight: float = 0.3
    mask_id_top_k: float = 1.0
    instance_discrimination_weight: float = 1.0
    instance_discrimination_top_k: float = 1.0
    temperature: float = 0.3
    num_samples: int = 0
    sample_temperature: float = 0.6
    semantic_weight: float = 1.0
    semantic_top_k: float = 1.0


class MaskOutputs(NamedTuple):
    """
    What a mask transformer predicts, after its last layer or an earlier one.

    Attributes:
        mask_logits: (N, K, P) float, over K slots.
        class_logits: (N, K, C + 1) float, void last.
        pixel_features: (N, D, P) float, of unit length over D.
    """

    mask_logits: Tensor
    class_logits: Tensor
    pixel_features: Tensor


def mask_transformer_losses(
    outputs: Sequence[MaskOutputs],
    targets: MaskTargets,
    options: MaskTransformerLossOptions,
    *,
    semantic_logits: Optional[Tensor] = None,
    semantic_labels: Optional[Tensor] = None,
    semantic_weights: Optional[Tensor] = None,
    ignore_label: int = 255,
    sources: Optional[Sequence[str]] = None,
) -> Tuple[Terms, Terms]:
    """
    The weighted losses of a batch, in float32 under autocast too, and metrics beside them.

    Args:
        outputs: the final ones, then auxiliary ones, over the same slots and pixels.
        targets: G masks over the P pixels.
        options: weights and what else there is to choose.
        semantic_logits: (N, C', H, W) float, auxiliary; None: without their loss.
        semantic_labels: (N, H', W') integer in [0, C') or ``ignore_label``, of the size of the
            logits or a whole stride larger.
        semantic_weights: (N, H', W') float; None: 1.
        ignore_label: semantic label without a loss.
        sources: names of the images, for errors.

    Returns:
        (N,) each, as far as they have a weight: ``loss_pq_class``, ``loss_pq_mask``,
        ``loss_mask_id``, ``loss_instance_discrimination`` and ``loss_semantic``, and the first four
        of the auxiliary outputs, ``loss_pq_class_aux0``, ...; and the scalars of
        :func:`matching_metrics` and :func:`recognition_metric` that follow from what was computed
        of the final outputs.

    Raises:
        ValueError: if a cost of the matching is not finite (see :func:`hungarian_matching`).
        SurplusMasksError: if an image has too many masks and ``options.surplus_masks`` is "error".
    """
    num_slots = outputs[0].class_logits.shape[1]
    targets = limit_masks(targets, num_slots, surplus=options.surplus_masks, sources=sources)
    losses: Terms = {}
    metrics: Terms = {}
    matching: Optional[MaskMatching] = None
    with torch.autocast(outputs[0].mask_logits.device.type, enabled=False):
        for index, output in enumerate(outputs):
            suffix = f"_aux{index - 1}" if index else ""
            found: Terms = {}
            if options.pq_style_weight or options.mask_id_weight:
                overlaps = measure_overlaps(output.mask_logits, targets)
                if matching is None or options.match_auxiliary:
                    matching = _match(output, targets, overlaps, options)
                losses.update(_mask_losses(output, targets, matching, overlaps, options, suffix))
                found = matching_metrics(
                    targets, matching, mask_logits=output.mask_logits, overlaps=overlaps
                )
            if options.instance_discrimination_weight:
                loss, accuracy = _discriminate(output.pixel_features, targets, options)
                losses["loss_instance_discrimination" + suffix] = loss
                found.update(accuracy)
            metrics = metrics or found
        if options.semantic_weight and semantic_logits is not None and semantic_labels is not None:
            losses["loss_semantic"] = options.semantic_weight * topk_cross_entropy(
                semantic_logits,
                semantic_labels,
                semantic_weights,
                ignore_label=ignore_label,
                top_k_percent=options.semantic_top_k,
            )
    return losses, metrics


def _match(
    output: MaskOutputs,
    targets: MaskTargets,
    overlaps: MaskOverlaps,
    options: MaskTransformerLossOptions,
) -> MaskMatching:
    return match_masks(
        targets,
        overlaps,
        output.class_logits,
        similarity=options.similarity,
        unmatched_weight=options.unmatched_weight,
    )


def _mask_losses(
    output: MaskOutputs,
    targets: MaskTargets,
    matching: MaskMatching,
    overlaps: MaskOverlaps,
    options: MaskTransformerLossOptions,
    suffix: str,
) -> Terms:
    terms = mask_losses(
        output.mask_logits,
        output.class_logits,
        targets,
        matching,
        overlaps,
        alpha=options.alpha,
        mask_id_top_k=options.mask_id_top_k,
    )
    losses = {}
    if options.pq_style_weight:
        losses["loss_pq_class" + suffix] = options.pq_style_weight * terms.class_term
        losses["loss_pq_mask" + suffix] = options.pq_style_weight * terms.mask_term
    if options.mask_id_weight:
        losses["loss_mask_id" + suffix] = options.mask_id_weight * terms.mask_id
    return losses


def _discriminate(
    features: Tensor, targets: MaskTargets, options: MaskTransformerLossOptions
) -> Tuple[Tensor, Terms]:
    top_k = options.instance_discrimination_top_k
    if options.num_samples:
        losses = pixel_contrastive_loss(
            features,
            targets,
            num_samples=options.num_samples,
            sample_temperature=options.sample_temperature,
            temperature=options.temperature,
            top_k_percent=top_k,
        )
        return options.instance_discrimination_weight * losses, {}
    losses, is_recognised = discriminate_instances(
        features, targets, temperature=options.temperature
    )
    losses = options.instance_discrimination_weight * average_top_k(losses, top_k)
    return losses, recognition_metric(targets, is_recognised)
