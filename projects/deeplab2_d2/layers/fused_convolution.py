"""
Convolution, batch norm and activation as one operation, in evaluation on a CPU.

The kernel is scaled by the norm once, not at every call, and oneDNN adds the bias and activates
while a pixel is in its registers. Of features with their channels first it would make a copy with
the channels last, and back, which costs more than that spares. Of those of stride 1 in float32,
depthwise convolutions and large enough 3x3 convolutions are our own operators. Training, autograd,
compilers, tracers and counters of operations see the plain operations.
"""

from typing import Any, Callable, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import _len_torch_dispatch_stack

from .. import ops
from ..ops.extension import has_kernels
from .inference import is_plain_inference
from .norm import has_batch_statistics, is_batch_norm, scale_and_shift

# By :class:`Activation`'s names: oneDNN's name, and its numbers.
_ACTIVATIONS = {
    "none": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
    "hard_swish": ("hardswish", []),
    "swish": ("swish", []),
    "silu": ("swish", []),
}
_DTYPES = (torch.float32, torch.bfloat16)

# Winograd's filtering transforms each kernel, which takes the time of so many pixels, and each tile
# that of a few; below so many channels there is little to spare.
_LEAST_WINOGRAD_CHANNELS = 32
_KERNEL_PIXELS, _TILE_PIXELS = 128, 7


def may_fuse(conv: nn.Conv2d, norm: Optional[nn.Module], features: Tensor) -> bool:
    """
    Whether a convolution of ``features`` may be one operation with what follows it.

    Args:
        conv: whose type must be the features', or autocast's to decide: oneDNN would not check it.
        norm: after the convolution; None for no norm.
        features: (N, C, h, w); the channels must be last in memory.
    """
    is_constant = norm is None or (is_batch_norm(norm) and not has_batch_statistics(norm))
    return (
        is_constant
        and _may_use_onednn(features)
        and (features.dtype == conv.weight.dtype or torch.is_autocast_enabled("cpu"))
        and features.is_contiguous(memory_format=torch.channels_last)
    )


def _may_use_onednn(features: Tensor) -> bool:
    return (
        type(features) is Tensor
        and features.device.type == "cpu"
        and is_plain_inference()
        and features.dtype in _DTYPES
        and _is_computed(_computed_type(features))
        and features.numel() > 0
        and torch.backends.mkldnn.enabled
        and not torch.compiler.is_compiling()
        and not _len_torch_dispatch_stack()
        and _fused_operator() is not None
    )


def _computed_type(features: Tensor) -> torch.dtype:
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return features.dtype


def _is_computed(dtype: torch.dtype) -> bool:
    """Whether oneDNN computes in it on this processor; PyTorch's convolutions take any."""
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32


def fast_layout(images: Tensor) -> Tensor:
    """
    What a network of convolutions is given: images (N, C, H, W), in evaluation on a CPU with their
    channels last in memory, in which :func:`may_fuse` holds for all that follows.
    """
    is_seen = not is_plain_inference() or torch.compiler.is_compiling()
    if images.device.type != "cpu" or is_seen or not torch.backends.mkldnn.enabled:
        return images
    return images.contiguous(memory_format=torch.channels_last)


class FoldedKernel:
    """
    What is computed from parameters and buffers, kept while they stay as they are.

    Whoever writes into ``parameter.data`` in evaluation, past PyTorch's count of changes, is not
    seen; after ``train()`` it is computed anew in any case. A copied or saved module begins without
    one.
    """

    def __init__(self) -> None:
        self.clear()

    def __deepcopy__(self, memo: Any) -> "FoldedKernel":
        return FoldedKernel()

    def __reduce__(self) -> Any:
        return FoldedKernel, ()

    def clear(self) -> None:
        """Forget it."""
        # What it was computed from, and the result: one attribute, which threads may share.
        self._kept: Tuple[List[Any], Tuple[Optional[Tensor], ...]] = ([], ())

    def get(
        self,
        sources: Sequence[Optional[Tensor]],
        dtype: torch.dtype,
        fold: Callable[[], Tuple[Optional[Tensor], ...]],
    ) -> Any:
        """
        Args:
            sources: what it is computed from.
            dtype: of the result.
            fold: computes it.

        Returns:
            What ``fold`` has returned. It must not be changed.
        """
        key = _state(sources, dtype)
        known, folded = self._kept
        if key is None or not _is_same(key, known):
            folded = fold()
            self._kept = (key or [], folded)
        return folded


class FoldingModule(nn.Module):
    """A module that folds a kernel in evaluation, and forgets it when training begins."""

    def __init__(self) -> None:
        super().__init__()
        self._kernel = FoldedKernel()

    def train(self, mode: bool = True) -> "FoldingModule":
        if mode:
            self._kernel.clear()
        return super().train(mode)


def fused_convolution(
    conv: nn.Conv2d,
    kernel: FoldedKernel,
    norm: Optional[nn.Module],
    activation: str,
    features: Tensor,
) -> Tensor:
    """
    ``activation(norm(conv(features)))`` where :func:`may_fuse`.

    Args:
        conv: padded on both sides by ``conv.padding``.
        kernel: of this ``conv`` and ``norm``.
        activation: one for which :func:`is_fusible`.
        features: (N, C, h, w), channels last, as the result. With autocast the convolution is of
            its type.
    """
    dtype = _computed_type(features)
    features = features.to(dtype)
    sources = [conv.weight, conv.bias]
    if norm is not None:
        sources += [norm.weight, norm.bias, norm.running_mean, norm.running_var]  # type: ignore
    weight, bias = kernel.get(sources, dtype, lambda: _fold(conv, norm, dtype))
    if _is_depthwise_operator(conv, activation, dtype):
        return ops.depthwise_convolution(
            *(features, weight[:, 0], bias),
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            activation=activation,
        )
    if _is_winograd_operator(conv, activation, features):
        return ops.winograd_convolution(
            features, weight, bias, dilation=conv.dilation[0], activation=activation
        )
    name, numbers = _ACTIVATIONS[activation]
    return _fused_operator()(
        *(features, weight, bias, conv.padding, conv.stride, conv.dilation, conv.groups),
        *(name, numbers, ""),
    )


def project_channels(
    features: Tensor, kernel: Tensor, transpose: Optional[FoldedKernel] = None
) -> Tensor:
    """
    A 1x1 convolution whose result has its channels first, as attention along an axis reads them.

    In evaluation on a CPU the pixels are the rows of oneDNN's product, however they lie in memory;
    with one thread PyTorch's own convolution takes twice as long.

    Args:
        features: (N, C, h, w), of any strides.
        kernel: (K, C), contiguous; (C, K) with ``transpose``.
        transpose: what keeps the kernel's transpose.

    Returns:
        (N, K, h, w), contiguous.
    """
    is_plain = features.dtype != kernel.dtype or torch.is_autocast_enabled("cpu")
    if is_plain or not _may_use_onednn(features):
        kernel = kernel if transpose is None else kernel.t()
        return F.conv2d(features, kernel[:, :, None, None])
    num_images, channels, height, width = features.shape
    if transpose is not None:
        rows = kernel.detach().t()
        (kernel,) = transpose.get([kernel], kernel.dtype, lambda: (rows.contiguous(),))
    images = features.permute(0, 2, 3, 1).reshape(num_images, height * width, channels)
    maps = [
        torch.ops.mkldnn._linear_pointwise(kernel, pixels, None, "none", [], "")
        for pixels in images
    ]
    stacked = maps[0][None] if num_images == 1 else torch.stack(maps)
    return stacked.view(num_images, -1, height, width)


def is_fusible(activation: str) -> bool:
    """Whether an activation, by :class:`Activation`'s names, can be part of the operation."""
    return activation in _ACTIVATIONS


def _fused_operator() -> Any:
    """PyTorch's binding of oneDNN's convolution with what follows; None where it was left out."""
    return getattr(torch.ops.mkldnn, "_convolution_pointwise", None)


def _fold(
    conv: nn.Conv2d, norm: Optional[nn.Module], dtype: torch.dtype
) -> Tuple[Tensor, Optional[Tensor]]:
    weight, bias = conv.weight, conv.bias
    if norm is not None:
        scale, shift = scale_and_shift(norm)
        bias = shift if bias is None else shift + bias * scale
        weight = weight * scale.view(-1, 1, 1, 1)
    weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
    if dtype == torch.float32 and (_is_dense_depthwise(conv) or _is_for_winograd(conv)):
        # As our operators read it.
        weight = weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    return weight.detach(), None if bias is None else bias.to(dtype).detach()


def _is_dense_depthwise(conv: nn.Conv2d) -> bool:
    """Whether a convolution of stride 1 has one filter a channel."""
    is_depthwise = 1 < conv.groups == conv.in_channels == conv.out_channels
    return is_depthwise and tuple(conv.stride) == (1, 1)


def _is_for_winograd(conv: nn.Conv2d) -> bool:
    """Whether a convolution is 3x3 of stride 1, keeps the size, and has many channels."""
    shape = (*conv.kernel_size, *conv.stride, conv.groups)
    return (
        shape == (3, 3, 1, 1, 1)
        and conv.padding == conv.dilation
        and conv.dilation[0] == conv.dilation[1]
        and min(conv.in_channels, conv.out_channels) >= _LEAST_WINOGRAD_CHANNELS
    )


def _is_winograd_operator(conv: nn.Conv2d, activation: str, features: Tensor) -> bool:
    """Whether a convolution is Winograd's, where that is faster than oneDNN's direct sum."""
    if not _is_for_winograd(conv) or features.dtype != torch.float32:
        return False
    num_images, _, height, width = features.shape
    rate = conv.dilation[0]
    tiles = ops.num_winograd_tiles(height, rate) * ops.num_winograd_tiles(width, rate)
    return (
        _KERNEL_PIXELS + _TILE_PIXELS * tiles * num_images <= height * width * num_images
        and activation in ops.WINOGRAD_ACTIVATIONS
        and has_kernels("winograd_convolution", "cpu")
    )


def _is_depthwise_operator(conv: nn.Conv2d, activation: str, dtype: torch.dtype) -> bool:
    """Whether a convolution is our depthwise operator, where that is faster than oneDNN's."""
    return (
        _is_dense_depthwise(conv)
        and dtype == torch.float32
        and activation in ops.DEPTHWISE_ACTIVATIONS
        and has_kernels("depthwise_convolution", "cpu")
    )


def _state(sources: Sequence[Optional[Tensor]], dtype: torch.dtype) -> Optional[List[Any]]:
    """What tells one content of tensors from another; None where changes cannot be noticed."""
    state: List[Any] = [dtype]
    for tensor in sources:
        if tensor is not None:
            if tensor.is_inference():
                return None
            state += [tensor, tensor.data_ptr(), tensor._version]
    return state


def _is_same(first: List[Any], second: List[Any]) -> bool:
    return len(first) == len(second) and all(
        one is other if isinstance(one, Tensor) else one == other
        for one, other in zip(first, second)
    )
