"""Depthwise convolution with bias and activation, in PyTorch."""

from typing import Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = {
    "none": lambda values: values,
    "relu": F.relu,
    "relu6": F.relu6,
    "hard_swish": F.hardswish,
}


def depthwise_convolution(
    features: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    activation: str,
) -> Tensor:
    """See `deeplab2_d2.ops.depthwise_convolution`."""
    output = F.conv2d(
        features.float(),
        weight[:, None],
        bias,
        *(tuple(stride), tuple(padding), tuple(dilation), features.shape[1]),
    )
    output = ACTIVATIONS[activation](output).to(features.dtype)
    return output.contiguous(memory_format=torch.channels_last)
