"""Switchable atrous convolution (DetectoRS, arXiv:2006.02334, Sec. 3.2 and 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .initialization import he_normal_, zeros_

# The larger of the two atrous rates that a switchable convolution mixes, over the smaller.
_LARGE_RATE = 3
# Side of the window that the switch averages over.
_SWITCH_WINDOW = 5


class GlobalContext(nn.Module):
    """Add a 1x1 convolution of the mean over all pixels. It starts as the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 1)
        zeros_(self.convolution.weight)
        zeros_(self.convolution.bias)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.convolution(features.mean(dim=(2, 3), keepdim=True))


class SwitchableAtrousConv2d(nn.Module):
    """
    ``s * conv(x, 3 * atrous_rate) + (1 - s) * conv(x, atrous_rate)`` with one shared kernel.

    The switch ``s`` is computed for each pixel from a 5x5 mean. As in DeepLab2 it is not bounded
    (no sigmoid) and starts at 0, and both convolutions share all of the kernel; DetectoRS adds a
    trained difference to the second.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        atrous_rate: int = 1,
        use_bias: bool = True,
    ):
        """
        Raises:
            ValueError: for a stride other than 1 or an even kernel, which DeepLab2 does not have.
        """
        super().__init__()
        if stride != 1 or kernel_size % 2 == 0:
            raise ValueError(
                "a switchable atrous convolution must have stride 1 and an odd kernel_size, "
                f"got {stride} and {kernel_size}"
            )
        self.atrous_rate = atrous_rate
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if use_bias else None
        self.switch = nn.Conv2d(in_channels, 1, 1)
        he_normal_(self.weight)
        zeros_(self.switch.weight)
        zeros_(self.switch.bias)

    def forward(self, features: Tensor) -> Tensor:
        # TensorFlow's mean at the border is over the pixels inside the image only.
        pooled = F.avg_pool2d(
            features, _SWITCH_WINDOW, 1, _SWITCH_WINDOW // 2, count_include_pad=False
        )
        switch = self.switch(pooled)
        small = self._convolve(features, self.atrous_rate)
        large = self._convolve(features, _LARGE_RATE * self.atrous_rate)
        output = switch * large + (1.0 - switch) * small
        return output if self.bias is None else output + self.bias.view(1, -1, 1, 1)

    def _convolve(self, features: Tensor, atrous_rate: int) -> Tensor:
        padding = (self.weight.shape[-1] - 1) * atrous_rate // 2
        return F.conv2d(features, self.weight, None, 1, padding, atrous_rate)
