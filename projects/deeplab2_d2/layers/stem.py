"""The first convolutions of a residual network."""

from typing import Any, Dict

from torch import Tensor, nn

from .convolution import ConvNormAct
from .norm import Norm


class InceptionStem(nn.Module):
    """
    Three 3x3 convolutions, the first with stride 2; the output is not activated.

    Reference: Inception-v4 (arXiv:1602.07261), Sec. 3; the "beta" networks of DeepLab2.
    """

    def __init__(
        self,
        *,
        norm: Norm,
        in_channels: int = 3,
        width_multiplier: float = 1.0,
        activation: str = "relu",
    ):
        """
        Args:
            width_multiplier: factor on the 64, 64 and 128 channels, rounded down.
        """
        super().__init__()
        channels = int(64 * width_multiplier)
        self.out_channels = int(128 * width_multiplier)
        options: Dict[str, Any] = {"norm": norm, "activation": activation}
        self.conv1_bn_act = ConvNormAct(in_channels, channels, 3, stride=2, **options)
        self.conv2_bn_act = ConvNormAct(channels, channels, 3, **options)
        self.conv3_bn = ConvNormAct(channels, self.out_channels, 3, norm=norm)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv3_bn(self.conv2_bn_act(self.conv1_bn_act(images)))
