"""All losses of MaX-DeepLab, with their weights."""

from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .cross_entropy import topk_cross_entropy
from .hungarian import AssignmentSolver
from .instance_discrimination import discriminate_instances, pixel_contrastive_loss
from .mask_matching import match_masks, match_overlaps
from .mask_overlaps import measure_overlaps
from .mask_targets import MaskTargets
from .max_deeplab import mask_losses
from .max_deeplab_metrics import matching_metrics, recognition_metric
from .pixel_chunks import check_form
from .surplus_masks import limit_masks
from .topk import average_top_k, to_full_precision

Terms = Dict[str, Tensor]


@dataclass(frozen=True)
class MaXDeepLabLossOptions:
    """
    The defaults are those of MaX-DeepLab (arXiv:2012.00759), Sec. 4, and where the paper is silent
    or differs, as in ``unmatched_weight``, those of DeepLab2. A weight of 0 leaves a term out,
    uncomputed: so are the rows of the paper's Table 6.

    Attributes:
        pq_style_weight: of the PQ-style loss.
        alpha: part of matched slots in it, against unmatched ones.
        similarity, unmatched_weight: of the matching, see :func:`match_masks`.
        surplus_masks: see :func:`limit_masks`.
        mask_id_weight: of the mask-ID cross-entropy.
        instance_discrimination_weight: of that loss.
        temperature: divides its similarities (tau).
        num_samples: pixels that it draws of each image; 0: all pixels of things, as in the paper.
        sample_temperature: above 1 draws even more of small masks.
        semantic_weight: of the auxiliary semantic cross-entropy.
        mask_id_top_k, instance_discrimination_top_k, semantic_top_k: fraction of an image's pixels
            (or samples) that a loss keeps.
        form: "lean" needs little memory beside inputs and gradients; "plain" leaves everything to
            autograd, and is the specification.
    """

    pq_style_weight: float = 3.0
    alpha: float = 0.75
    similarity: str = "product"
    unmatched_weight: str = "void_ratio"
    surplus_masks: str = "unmatched"
    mask_id_weight: float = 0.3
    mask_id_top_k: float = 1.0
    instance_discrimination_weight: float = 1.0
    instance_discrimination_top_k: float = 1.0
    temperature: float = 0.3
    num_samples: int = 0
    sample_temperature: float = 0.6
    semantic_weight: float = 1.0
    semantic_top_k: float = 1.0
    form: str = "lean"

    def __post_init__(self) -> None:
        check_form(self.form)


def max_deeplab_losses(
    mask_logits: Tensor,
    class_logits: Tensor,
    pixel_features: Tensor,
    targets: MaskTargets,
    options: MaXDeepLabLossOptions,
    *,
    semantic_logits: Optional[Tensor] = None,
    semantic_labels: Optional[Tensor] = None,
    semantic_weights: Optional[Tensor] = None,
    ignore_label: int = 255,
    solver: Optional[AssignmentSolver] = None,
    sources: Optional[Sequence[str]] = None,
) -> Tuple[Terms, Terms]:
    """
    The weighted losses of a batch, in float32 under autocast too, and metrics beside them.

    Args:
        mask_logits: (N, K, P) float, over K slots.
        class_logits: (N, K, C + 1) float, void last.
        pixel_features: (N, D, P) float, of unit length over D.
        targets: G masks over the P pixels.
        options: weights and forms.
        semantic_logits: (N, C', H, W) float, auxiliary; None: without their loss.
        semantic_labels: (N, H', W') integer in [0, C') or ``ignore_label``, of the size of the
            logits or a whole stride larger.
        semantic_weights: (N, H', W') float; None: 1.
        ignore_label: semantic label without a loss.
        solver: of the matching, see :func:`hungarian_matching`.
        sources: names of the images, for errors.

    Returns:
        (N,) each, as far as they have a weight: ``loss_pq_class``, ``loss_pq_mask``,
        ``loss_mask_id``, ``loss_instance_discrimination`` and ``loss_semantic``; and the scalars of
        :func:`matching_metrics` and :func:`recognition_metric` that follow from what was computed.

    Raises:
        ValueError: if a cost of the matching is not finite (see :func:`hungarian_matching`) or an
            image has too many masks and ``options.surplus_masks`` is "error".
    """
    targets = limit_masks(
        targets, class_logits.shape[1], surplus=options.surplus_masks, sources=sources
    )
    losses: Terms = {}
    metrics: Terms = {}
    with torch.autocast(mask_logits.device.type, enabled=False):
        if options.pq_style_weight or options.mask_id_weight:
            losses, metrics = _mask_losses(mask_logits, class_logits, targets, options, solver)
        if options.instance_discrimination_weight:
            loss, accuracy = _discriminate(pixel_features, targets, options)
            losses["loss_instance_discrimination"] = loss
            metrics.update(accuracy)
        if options.semantic_weight and semantic_logits is not None and semantic_labels is not None:
            losses["loss_semantic"] = options.semantic_weight * topk_cross_entropy(
                semantic_logits,
                semantic_labels,
                semantic_weights,
                ignore_label=ignore_label,
                top_k_percent=options.semantic_top_k,
                form=options.form,
            )
    return losses, metrics


def _mask_losses(
    mask_logits: Tensor,
    class_logits: Tensor,
    targets: MaskTargets,
    options: MaXDeepLabLossOptions,
    solver: Optional[AssignmentSolver],
) -> Tuple[Terms, Terms]:
    overlaps = None
    rules: Dict[str, Any] = {
        "similarity": options.similarity,
        "unmatched_weight": options.unmatched_weight,
        "solver": solver,
    }
    if options.form == "lean":
        overlaps = measure_overlaps(mask_logits, targets)
        matching = match_overlaps(targets, overlaps, class_logits, **rules)
    else:
        probabilities = to_full_precision(mask_logits.detach()).softmax(1)
        matching = match_masks(targets, probabilities, class_logits, **rules)
    terms = mask_losses(
        mask_logits,
        class_logits,
        targets,
        matching,
        alpha=options.alpha,
        mask_id_top_k=options.mask_id_top_k,
        form=options.form,
        overlaps=overlaps,
    )
    losses = {}
    if options.pq_style_weight:
        losses["loss_pq_class"] = options.pq_style_weight * terms.class_term
        losses["loss_pq_mask"] = options.pq_style_weight * terms.mask_term
    if options.mask_id_weight:
        losses["loss_mask_id"] = options.mask_id_weight * terms.mask_id
    metrics = matching_metrics(targets, matching, mask_logits=mask_logits, overlaps=overlaps)
    return losses, metrics


def _discriminate(
    features: Tensor, targets: MaskTargets, options: MaXDeepLabLossOptions
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
            form=options.form,
        )
        return options.instance_discrimination_weight * losses, {}
    losses, is_recognised = discriminate_instances(
        features, targets, temperature=options.temperature, form=options.form
    )
    losses = options.instance_discrimination_weight * average_top_k(losses, top_k)
    return losses, recognition_metric(targets, is_recognised)
