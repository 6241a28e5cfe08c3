"""The last two convolutions of a prediction."""

from torch import Tensor, nn

from ..layers import Norm, build_conv, truncated_normal_, zeros_

_FINAL_STD = 0.01


class PredictionHead(nn.Module):
    """A 5x5 convolution with batch norm, then a 1x1 one without."""

    def __init__(
        self,
        in_channels: int,
        *,
        channels: int,
        out_channels: int,
        norm: Norm,
        conv_type: str = "depthwise_separable_conv",
        activation: str = "relu",
    ):
        """
        Args:
            channels: between the two convolutions.
            conv_type: of the first, see :func:`build_conv`.
        """
        super().__init__()
        self.conv1_bn_act = build_conv(
            conv_type, in_channels, channels, 5, norm=norm, activation=activation
        )
        self.final_conv = nn.Conv2d(channels, out_channels, 1)
        truncated_normal_(self.final_conv.weight, std=_FINAL_STD)
        zeros_(self.final_conv.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, h, w), not activated."""
        return self.final_conv(self.conv1_bn_act(features))
