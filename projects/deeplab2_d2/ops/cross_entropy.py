"""Operator: upsampling and weighted cross-entropy in one go, with its gradient."""

from typing import Any, Optional, Tuple

import torch
from torch import Tensor

from . import reference
from .checks import check_shape
from .extension import has_kernels, register_fake, register_gradient


def upsampled_cross_entropy(
    logits: Tensor, labels: Tensor, weights: Optional[Tensor], *, ignore_label: int
) -> Tensor:
    """
    Cross-entropy at the labels' resolution of logits at a smaller one.

    The result is that of upsampling with aligned corners, cross-entropy and weighting. The
    upsampled (C, H, W) logits and their gradient are never whole in memory: both passes compute
    them anew, a part of a row at a time. The gradient is deterministic.

    Args:
        logits: (N, C, h, w) float; float16 and bfloat16 are computed in float32.
        labels: (N, H, W) int64, each in [0, C) or ``ignore_label``.
        weights: (N, H, W) float without gradient; None is 1 everywhere.
        ignore_label: label without a loss.

    Returns:
        (N, H, W) float32 (float64 for float64 logits); 0 where the label is ignored. What is not
        finite, in logits, weights or gradient, gives what it gives in PyTorch.

    Raises:
        ValueError: if a shape is not as above; RuntimeError if a label is not (on the CPU).
    """
    name = "upsampled_cross_entropy"
    check_shape(f"{name}: logits", logits, ("N", "C", "h", "w"), "(N, C, h, w)")
    check_shape(f"{name}: labels", labels, (logits.shape[0], "H", "W"), "(N, H, W) as the logits")
    if weights is not None:
        check_shape(f"{name}: weights", weights, labels.shape, str(tuple(labels.shape)))
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    if not has_kernels("upsampled_cross_entropy", logits.device.type):
        return reference.upsampled_cross_entropy(logits, labels, weights, ignore_label=ignore_label)
    scale = [
        (source - 1) / (target - 1) if target > 1 else 0.0
        for source, target in zip(logits.shape[-2:], labels.shape[-2:])
    ]
    return torch.ops.deeplab2_d2.upsampled_cross_entropy(
        logits, labels, weights, scale=scale, ignore_label=ignore_label
    )


@register_fake("upsampled_cross_entropy")
def _fake(
    logits: Tensor,
    labels: Tensor,
    weights: Optional[Tensor],
    *,
    scale: Tuple[float, float],
    ignore_label: int,
) -> Tensor:
    return logits.new_empty(labels.shape)


@register_fake("upsampled_cross_entropy_backward")
def _fake_backward(
    grad: Tensor,
    logits: Tensor,
    labels: Tensor,
    weights: Optional[Tensor],
    *,
    scale: Tuple[float, float],
    ignore_label: int,
) -> Tensor:
    return logits.new_empty(logits.shape)


def _save_inputs(ctx: Any, inputs: Tuple[Any, ...], keyword_only_inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)
    ctx.options = keyword_only_inputs


def _backward(ctx: Any, grad: Tensor) -> Tuple[Tensor, None, None]:
    logits, labels, weights = ctx.saved_tensors
    backward = torch.ops.deeplab2_d2.upsampled_cross_entropy_backward
    return backward(grad, logits, labels, weights, **ctx.options), None, None


@register_gradient("upsampled_cross_entropy")
def _register_gradient() -> None:
    torch.library.register_autograd(
        "deeplab2_d2::upsampled_cross_entropy", _backward, setup_context=_save_inputs
    )
