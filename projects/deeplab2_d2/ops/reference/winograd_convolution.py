"""A 3x3 convolution with bias and activation, in PyTorch."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from .depthwise_convolution import ACTIVATIONS


def winograd_convolution(
    features: Tensor, weight: Tensor, bias: Optional[Tensor], *, dilation: int, activation: str
) -> Tensor:
    """See `deeplab2_d2.ops.winograd_convolution`; summed directly."""
    output = F.conv2d(features, weight, bias, padding=dilation, dilation=dilation)
    return ACTIVATIONS[activation](output).contiguous(memory_format=torch.channels_last)
