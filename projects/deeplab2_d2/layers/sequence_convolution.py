"""1x1 convolutions of sequences."""

from torch import Tensor, nn

from .activation import Activation
from .fused_convolution import project_channels
from .initialization import he_normal_
from .norm import Norm


class SequenceConvNormAct(nn.Module):
    """1x1 convolution, batch norm and activation of (N, C, L)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: Norm,
        activation: str = "none",
        zero_init_norm: bool = False,
    ):
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, 1, bias=False)
        he_normal_(self.conv.weight)
        self.batch_norm = norm.build_batch_norm(
            out_channels, zero_init=zero_init_norm, is_biased=True
        )
        self.activation = Activation(activation)

    def forward(self, features: Tensor) -> Tensor:
        projected = project_channels(features[..., None], self.conv.weight[..., 0])
        return self.activation(self.batch_norm(projected)[..., 0])
