"""Operator: a convolution of each channel by itself, with bias and activation, on the CPU."""

from typing import Any, Dict, Optional, Sequence

import torch
from torch import Tensor

from . import reference
from .checks import check_shape
from .extension import has_kernels, register_fake

DEPTHWISE_ACTIVATIONS = ("none", "relu", "relu6", "hard_swish")


def depthwise_convolution(
    features: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    *,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    activation: str = "none",
) -> Tensor:
    """
    ``activation(bias + convolution)`` of every channel with a kernel of its own.

    The result is the same for any number of threads. With a gradient wanted, and of tensors that
    are not on the CPU, the reference runs.

    Args:
        features: (N, C, h, w) float32 or bfloat16; those with their channels last in memory are not
            copied. Sums are of float32.
        weight: (C, kh, kw) float32; a view of (kh, kw, C) in one piece is not copied.
        bias: (C) float32, or None for 0.
        stride, dilation: (vertical, horizontal), at least 1.
        padding: pixels of zeros before and after, (vertical, horizontal), at least 0.
        activation: "none", "relu", "relu6" or "hard_swish".

    Returns:
        (N, C, H, W) of the features' type, channels last in memory, where ``H = (h + 2 * padding -
        dilation * (kh - 1) - 1) // stride + 1``, and W likewise.

    Raises:
        ValueError: for another activation, and features that have not four axes. RuntimeError: if
            another argument is not as above, or the kernel does not fit into the padded features.
    """
    name = "depthwise_convolution"
    check_shape(f"{name}: features", features, ("N", "C", "h", "w"), "(N, C, h, w)")
    if activation not in DEPTHWISE_ACTIVATIONS:
        raise ValueError(
            f"{name}: activation must be one of {', '.join(map(repr, DEPTHWISE_ACTIVATIONS))}, got "
            f"{activation!r}"
        )
    options: Dict[str, Any] = {
        "stride": stride, "padding": padding, "dilation": dilation, "activation": activation
    }  # fmt: skip
    tensors = (features, weight) if bias is None else (features, weight, bias)
    has_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    is_elsewhere = features.device.type not in ("cpu", "meta")
    if has_gradient or is_elsewhere or not has_kernels(name, features.device.type):
        return reference.depthwise_convolution(features, weight, bias, **options)
    return torch.ops.deeplab2_d2.depthwise_convolution(features, weight, bias, **options)


@register_fake("depthwise_convolution")
def _fake(
    features: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str,
) -> Tensor:
    sides = [
        (features.shape[2 + i] + 2 * padding[i] - dilation[i] * (weight.shape[1 + i] - 1) - 1)
        // stride[i]
        + 1
        for i in range(2)
    ]
    output = features.new_empty((*features.shape[:2], *sides))
    return output.to(memory_format=torch.channels_last)
