"""The losses of mask transformers left to autograd: what the lean forms are held against."""

import torch
import torch.nn.functional as F

from deeplab2_d2.losses import (
    MaskOverlaps,
    average_top_k,
    focal_cross_entropy,
    limit_masks,
    match_masks,
    slot_cross_entropy,
    soft_cross_entropy,
)
from deeplab2_d2.losses.dice import dice_loss_from_areas
from deeplab2_d2.losses.pixel_softmax import ABSENT_LOGIT


def full(tensor):
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def overlaps_of(targets, probabilities):
    """Overlaps of (N, K, P) mask probabilities with G masks."""
    probabilities = probabilities.detach()
    masks = targets.one_hot_masks().to(probabilities.dtype)
    has_mask = targets.mask_ids >= 0
    crowd = (targets.is_labeled & ~has_mask)[:, None]
    largest = probabilities.amax(1).log()
    return MaskOverlaps(
        overlap=masks @ probabilities.transpose(1, 2),
        crowd_area=(probabilities * crowd).sum(2),
        void_area=(probabilities * ~targets.is_labeled[:, None]).sum(2),
        partition=torch.stack([largest, torch.zeros_like(largest)], dim=1),
    )


def match_probabilities(targets, probabilities, class_logits, **rules):
    return match_masks(targets, overlaps_of(targets, probabilities), class_logits, **rules)


def mask_terms(mask_logits, targets, matching):
    """(N, P) mask-ID losses; (N, G) overlap of each mask and its slot, and the slot's area."""
    mask_logits = full(mask_logits)
    has_mask = targets.mask_ids >= 0
    pixel_slots = matching.slots.gather(1, targets.mask_ids.clamp(min=0))
    pixel_slots = torch.where(has_mask, pixel_slots, -1)
    mask_id = slot_cross_entropy(mask_logits, pixel_slots, has_mask)
    probabilities = mask_logits.softmax(1) * has_mask[:, None]
    slots = matching.slots.clamp(min=0)
    has_slot = matching.slots >= 0
    area = probabilities.sum(2).gather(1, slots) * has_slot
    # The probability, at each pixel, of the slot of its own mask.
    own = probabilities.gather(1, pixel_slots.clamp(min=0)[:, None])[:, 0]
    overlap = torch.zeros_like(targets.areas, dtype=own.dtype)
    overlap = overlap.scatter_add(1, targets.mask_ids.clamp(min=0), own)
    return mask_id, overlap * has_slot, area


def discriminate(features, targets, temperature):
    """(N, P) losses of the things' pixels, and which of them are recognised."""
    labels = torch.where(targets.is_thing, targets.mask_ids, -1)
    features = full(features)
    sums = targets.one_hot_masks().to(features.dtype) @ features.transpose(1, 2)
    means = sums / targets.areas.clamp(min=1.0)[:, :, None]
    logits = (F.normalize(means, dim=2, eps=1e-6) @ features) / temperature
    logits = torch.where(targets.exists[:, :, None], logits, ABSENT_LOGIT)
    losses = F.cross_entropy(logits, labels, reduction="none", ignore_index=-1)
    chosen = logits.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    return losses, (chosen >= logits.amax(1)) & (labels >= 0)


def sample_contrast(features, ids, temperature):
    """(N, M) losses of samples that are to recognise those of their own mask."""
    features = full(features)
    is_same = ((ids[:, :, None] == ids[:, None, :]) & (ids >= 0)[:, :, None]).to(features.dtype)
    labels = is_same / is_same.sum(2, keepdim=True).clamp(min=1.0)
    similarities = (features.transpose(1, 2) @ features) / temperature
    # Symmetric: the channel axis is the second of either.
    return soft_cross_entropy(similarities, labels.transpose(1, 2))


def cross_entropy(logits, labels, weights, *, ignore_label, top_k_percent=1.0):
    """(N,) bootstrapped cross-entropy of labels of the logits' size."""
    losses = F.cross_entropy(full(logits), labels, reduction="none", ignore_index=ignore_label)
    return average_top_k(losses if weights is None else losses * weights, top_k_percent)


def mean_of(total, count):
    return total.float() / count.clamp(min=1)


def mask_transformer_losses(
    outputs, targets, options, semantic_logits, semantic_labels, semantic_weights, ignore_label
):
    """Losses and metrics by name, for one element of ``outputs`` and all weights positive."""
    (output,) = outputs
    targets = limit_masks(targets, output.class_logits.shape[1], surplus=options.surplus_masks)
    probabilities = full(output.mask_logits.detach()).softmax(1)
    matching = match_probabilities(
        targets,
        probabilities.float(),
        output.class_logits,
        similarity=options.similarity,
        unmatched_weight=options.unmatched_weight,
    )
    class_term = focal_cross_entropy(
        output.class_logits.transpose(1, 2),
        matching.class_labels.transpose(1, 2),
        matching.class_weights,
        alpha=options.alpha,
    )
    mask_id, overlap, area = mask_terms(output.mask_logits, targets, matching)
    dice = dice_loss_from_areas(overlap, area, targets.areas)
    mask_term = (dice * matching.mask_weights).sum(1) * options.alpha / probabilities.shape[1]
    mask_id = average_top_k(mask_id * targets.is_labeled, options.mask_id_top_k)
    slots = matching.slots.gather(1, targets.mask_ids.clamp(min=0))
    own = output.mask_logits.gather(1, slots.clamp(min=0)[:, None])[:, 0]
    has_slot = (targets.mask_ids >= 0) & (slots >= 0)
    is_right = has_slot & (own >= output.mask_logits.amax(1))
    num_matched = (matching.slots >= 0).sum()
    metrics = {
        "matched_class_confidence": mean_of(matching.class_confidence.sum(), num_matched),
        "matched_mask_dice": mean_of(matching.dice.sum(), num_matched),
        "mask_id_accuracy": mean_of(is_right.sum(), (targets.mask_ids >= 0).sum()),
    }
    top_k = options.instance_discrimination_top_k
    if options.num_samples:
        from deeplab2_d2.losses.pixel_contrast import _sample_pixels

        indices = _sample_pixels(targets, options.num_samples, options.sample_temperature)
        sampled = output.pixel_features.gather(
            2, indices[:, None].expand(-1, output.pixel_features.shape[1], -1)
        )
        instance = sample_contrast(
            sampled, targets.mask_ids.gather(1, indices), options.temperature
        )
    else:
        instance, is_recognised = discriminate(output.pixel_features, targets, options.temperature)
        accuracy = mean_of(is_recognised.sum(), targets.is_thing.sum())
        metrics["instance_discrimination_accuracy"] = accuracy
    losses = {
        "loss_pq_class": options.pq_style_weight * class_term,
        "loss_pq_mask": options.pq_style_weight * mask_term,
        "loss_mask_id": options.mask_id_weight * mask_id,
        "loss_instance_discrimination": options.instance_discrimination_weight
        * average_top_k(instance, top_k),
        "loss_semantic": options.semantic_weight
        * cross_entropy(
            semantic_logits,
            semantic_labels,
            semantic_weights,
            ignore_label=ignore_label,
            top_k_percent=options.semantic_top_k,
        ),
    }
    return losses, metrics
