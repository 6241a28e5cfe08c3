"""Squeeze-and-excite: scale channels by a function of their means."""

from torch import Tensor, nn

from .activation import Activation
from .initialization import he_normal_, lecun_normal_, zeros_


class SimplifiedSqueezeAndExcite(nn.Module):
    """
    One 1x1 convolution of the means, through a hard sigmoid (CenterMask, arXiv:1911.06667).
    """

    def __init__(self, channels: int):
        super().__init__()
        self.se_conv = nn.Conv2d(channels, channels, 1)
        self.gate = Activation("hard_sigmoid")
        lecun_normal_(self.se_conv.weight)
        zeros_(self.se_conv.bias)

    def forward(self, features: Tensor) -> Tensor:
        return self.gate(self.se_conv(features.mean(dim=(2, 3), keepdim=True))) * features


class SqueezeAndExcite(nn.Module):
    """Two 1x1 convolutions of the means (arXiv:1709.01507, Sec. 3)."""

    def __init__(
        self,
        channels: int,
        squeezed_channels: int,
        *,
        activation: str = "relu",
        gating_activation: str = "sigmoid",
    ):
        super().__init__()
        self.se_reduce = nn.Conv2d(channels, squeezed_channels, 1)
        self.se_expand = nn.Conv2d(squeezed_channels, channels, 1)
        self.activation = Activation(activation)
        self.gate = Activation(gating_activation)
        for layer in (self.se_reduce, self.se_expand):
            he_normal_(layer.weight)
            zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        means = features.mean(dim=(2, 3), keepdim=True)
        return self.gate(self.se_expand(self.activation(self.se_reduce(means)))) * features
