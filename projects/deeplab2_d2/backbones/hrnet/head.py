"""What HRNet's ImageNet classifier stands on: the part that HRNet+ keeps."""

from typing import List, Sequence

from torch import Tensor, nn

from ...layers import Activation, BlockSpec, ConvNormAct, GeneralBlock, Norm
from .branches import Step, rate_of

# Widths of the bottlenecks, a branch each; they return four times as many channels.
_WIDTHS = (32, 64, 128, 256)
_OUT_CHANNELS = 2048


class ClassificationTrunk(nn.Module):
    """
    A bottleneck on each branch, added up by strided convolutions from fine to coarse, then a 1x1.

    Reference: HRNet (arXiv:1908.07919), Sec. C; Panoptic-DeepLab (arXiv:1911.10194), Fig. 6 (a, b).
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        output_stride: int,
        width_multiplier: float,
        norm: Norm,
    ):
        """
        Args:
            channels: of the branches.
            width_multiplier: factor on the trunk's own channels.
        """
        super().__init__()
        widths = [max(1, int(round(width * width_multiplier))) for width in _WIDTHS]
        self.increase = nn.ModuleList(
            GeneralBlock(
                branch,
                BlockSpec(
                    "bottleneck",
                    (width, width, 4 * width),
                    atrous_rate=rate_of(index, output_stride),
                ),
                norm=norm,
            )
            for index, (branch, width) in enumerate(zip(channels, widths))
        )
        # Their biases have no effect beside a batch norm, but HRNet's have them.
        self.downsample = nn.ModuleList(
            ConvNormAct(
                4 * before,
                4 * after,
                3,
                stride=step.stride,
                atrous_rate=step.atrous_rate,
                norm=norm,
                activation="relu",
                use_bias=True,
            )
            for step, before, after in zip(
                (Step(index, output_stride) for index in range(3)), widths, widths[1:]
            )
        )
        self.out_channels = max(1, int(round(_OUT_CHANNELS * width_multiplier)))
        self.project = ConvNormAct(
            4 * widths[-1], self.out_channels, 1, norm=norm, activation="relu", use_bias=True
        )
        self.activation = Activation("relu")

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """
        Args:
            features: activated, of each branch.

        Returns:
            (N, out_channels, h, w) of the last branch's size.
        """
        raised: List[Tensor] = [
            self.activation(block(feature)) for block, feature in zip(self.increase, features)
        ]
        total = raised[0]
        for convolution, feature in zip(self.downsample, raised[1:]):
            total = convolution(total) + feature
        return self.project(total)
