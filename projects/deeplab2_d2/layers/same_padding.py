"""Convolution and pooling padded by TensorFlow's rule "same", which depends on the input's size."""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def same_padding(size: int, kernel_size: int, stride: int) -> Tuple[int, int]:
    """
    Pixels before and after ``size`` of them, so that ``ceil(size / stride)`` windows cover them.

    Args:
        kernel_size: with the holes of an atrous one.
    """
    total = max(0, (-(-size // stride) - 1) * stride + kernel_size - size)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's padding: for an even size and stride 2, after it alone."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        atrous_rate: int = 1,
        groups: int = 1,
        use_bias: bool = True,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            dilation=atrous_rate,
            groups=groups,
            bias=use_bias,
        )
        self.extent = (kernel_size - 1) * atrous_rate + 1

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[-2:]
        if torch.onnx.is_in_onnx_export():
            # Of a convolution in an ONNX file, padding is no result of a computation.
            height, width = int(height), int(width)
        stride = self.stride[0]
        top, bottom = same_padding(height, self.extent, stride)
        left, right = same_padding(width, self.extent, stride)
        if (top, left) == (bottom, right):
            padding = (top, left)
            return F.conv2d(
                *(features, self.weight, self.bias, self.stride),
                *(padding, self.dilation, self.groups),
            )
        return self._conv_forward(
            F.pad(features, (left, right, top, bottom)), self.weight, self.bias
        )


def same_average_pool(features: Tensor, kernel_size: int, stride: int) -> Tensor:
    """
    Means of windows with TensorFlow's padding, over the pixels that there are.

    Args:
        features: (N, C, h, w).
        kernel_size: of the window, at most the stride plus 1.

    Returns:
        (N, C, ceil(h / stride), ceil(w / stride)).
    """
    padding = [same_padding(size, kernel_size, stride)[0] for size in features.shape[-2:]]
    # What is missing after the last pixel is a window that begins inside and ends outside.
    return F.avg_pool2d(
        features, kernel_size, stride, padding, ceil_mode=True, count_include_pad=False
    )
