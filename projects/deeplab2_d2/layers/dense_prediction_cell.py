"""The dense prediction cell that a search has found (arXiv:1809.04184), in place of an ASPP."""

from typing import List, Sequence, Tuple

import torch
from torch import Tensor, nn

from .convolution import ConvNormAct, SeparableConvNormAct
from .norm import Norm

_DROPOUT = 0.1

# (number of the branch that it reads, -1 for the cell's input; vertical and horizontal rate).
CellBranch = Tuple[int, int, int]


class DensePredictionCell(nn.Module):
    """
    Separable 3x3 convolutions with rates that differ by axis, concatenated and projected.

    A branch reads the cell's input or a branch before it.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, branches: Sequence[CellBranch], norm: Norm
    ):
        """
        Args:
            out_channels: of every branch and of the cell.
            branches: in order; rates in pixels of the input.

        Raises:
            ValueError: for a branch that reads one that is not before it, or for no branch.
        """
        super().__init__()
        if not branches:
            raise ValueError("branches must be at least one, got none")
        self.sources: List[int] = []
        for index, (source, vertical, horizontal) in enumerate(branches):
            if not -1 <= source < index:
                raise ValueError(f"branch {index} must read -1 or one before it, got {source}")
            self.sources.append(source)
            branch = SeparableConvNormAct(
                in_channels if source == -1 else out_channels,
                out_channels,
                3,
                atrous_rate=(vertical, horizontal),
                norm=norm,
                activation="relu",
            )
            self.add_module(f"branch{index}", branch)
        self.drop = nn.Dropout(_DROPOUT)
        self.proj_conv_bn_act = ConvNormAct(
            len(branches) * out_channels, out_channels, 1, norm=norm, activation="relu"
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, h, w)."""
        outputs: List[Tensor] = []
        for index, source in enumerate(self.sources):
            read = features if source == -1 else outputs[source]
            outputs.append(getattr(self, f"branch{index}")(read))
        return self.proj_conv_bn_act(self.drop(torch.cat(outputs, dim=1)))
