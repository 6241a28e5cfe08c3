"""Operator: a 3x3 convolution by minimal filtering, with bias and activation, on the CPU."""

from typing import Any, Dict, Optional

import torch
from torch import Tensor

from . import reference
from .checks import check_shape
from .depthwise_convolution import DEPTHWISE_ACTIVATIONS
from .extension import has_kernels, register_fake

WINOGRAD_ACTIVATIONS = DEPTHWISE_ACTIVATIONS


def winograd_convolution(
    features: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    *,
    dilation: int = 1,
    activation: str = "none",
) -> Tensor:
    """
    ``activation(bias + convolution)`` of 3x3 kernels at stride 1, padded to keep the size.

    Tiles of 4x4 outputs take 36 multiplications a pair of channels in place of 144. Reference:
    Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv:1509.09308), Sec. 4;
    the points are 0, +-2/3, +-3/2 and infinity, whose rounding errors are a few times those of the
    direct sum. Atrous convolutions are tiled over the pixels that belong together. A value that is
    not finite makes its whole tile NaN.

    The result is the same for any number of threads. With a gradient wanted, and of tensors that
    are not on the CPU, the reference runs.

    Args:
        features: (N, C, h, w) float32; those with their channels last in memory are not copied.
        weight: (K, C, 3, 3) float32; a view of (3, 3, C, K) in one piece is not copied.
        bias: (K) float32, or None for 0.
        dilation: pixels from a tap to the next one, at least 1; also the padding.
        activation: one of ``WINOGRAD_ACTIVATIONS``: "none", "relu", "relu6" or "hard_swish".

    Returns:
        (N, K, h, w) float32, channels last in memory.

    Raises:
        ValueError: for another activation, and features that have not four axes. RuntimeError: if
            another argument is not as above.
    """
    name = "winograd_convolution"
    check_shape(f"{name}: features", features, ("N", "C", "h", "w"), "(N, C, h, w)")
    if activation not in WINOGRAD_ACTIVATIONS:
        raise ValueError(
            f"{name}: activation must be one of {', '.join(map(repr, WINOGRAD_ACTIVATIONS))}, got "
            f"{activation!r}"
        )
    options: Dict[str, Any] = {"dilation": dilation, "activation": activation}
    tensors = (features, weight) if bias is None else (features, weight, bias)
    has_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    is_elsewhere = features.device.type not in ("cpu", "meta")
    if has_gradient or is_elsewhere or not has_kernels(name, features.device.type):
        return reference.winograd_convolution(features, weight, bias, **options)
    return torch.ops.deeplab2_d2.winograd_convolution(features, weight, bias, **options)


def num_winograd_tiles(size: int, dilation: int) -> int:
    """Tiles along an axis of so many pixels: each residue modulo the rate has its own."""
    whole, rest = divmod(size, dilation)
    return rest * -(-(whole + 1) // 4) + (dilation - rest) * -(-whole // 4)


@register_fake("winograd_convolution")
def _fake(
    features: Tensor, weight: Tensor, bias: Optional[Tensor], *, dilation: int, activation: str
) -> Tensor:
    shape = (features.shape[0], weight.shape[0], *features.shape[2:])
    return features.new_empty(shape).to(memory_format=torch.channels_last)
