"""A cell: sums of operations on what came before, concatenated."""

from typing import Callable, Dict, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers import ConvNormAct, GrowingDropPath, Norm, PaddedConv2d, resize_align_corners
from .genotype import Genotype

# Of an atrous operation, unless it is strided.
_ATROUS_RATE = 2


class _SeparableLayer(nn.Module):
    """ReLU, depthwise and 1x1 convolution, and one norm."""

    def __init__(self, channels: int, kernel_size: int, *, stride: int, norm: Norm):
        super().__init__()
        self.depthwise_conv = PaddedConv2d(
            channels, channels, kernel_size, stride=stride, groups=channels, use_bias=False
        )
        self.pointwise = ConvNormAct(channels, channels, 1, norm=norm)

    def forward(self, features: Tensor) -> Tensor:
        return self.pointwise(self.depthwise_conv(F.relu(features)))


class SeparableOperation(nn.Module):
    """The separable layer twice, the first with the stride."""

    def __init__(self, channels: int, kernel_size: int, *, stride: int, norm: Norm):
        super().__init__()
        self.layer1 = _SeparableLayer(channels, kernel_size, stride=stride, norm=norm)
        self.layer2 = _SeparableLayer(channels, kernel_size, stride=1, norm=norm)

    def forward(self, features: Tensor) -> Tensor:
        return self.layer2(self.layer1(features))


class AtrousOperation(nn.Module):
    """ReLU, an atrous convolution and a norm; with a stride it is resized first, and not atrous."""

    def __init__(self, channels: int, kernel_size: int, *, stride: int, norm: Norm):
        super().__init__()
        self.stride = stride
        rate = _ATROUS_RATE if stride == 1 else 1
        self.conv = ConvNormAct(channels, channels, kernel_size, atrous_rate=rate, norm=norm)

    def forward(self, features: Tensor) -> Tensor:
        features = F.relu(features)
        if self.stride > 1:
            height, width = ((side + 1) // 2 for side in features.shape[-2:])
            features = resize_align_corners(features, (height, width))
        return self.conv(features)


# Name of an operation: (channels, stride, norm) to its module.
OPERATIONS: Dict[str, Callable[..., nn.Module]] = {
    f"{kind}_{size}x{size}": lambda channels, *, stride, norm, layer=layer, size=size: layer(
        channels, size, stride=stride, norm=norm
    )
    for kind, layer in (("separable", SeparableOperation), ("atrous", AtrousOperation))
    for size in (3, 5)
}


class Sum(nn.Module):
    """Two operations, each on a state, and their sum."""

    def __init__(
        self, entries: Genotype, channels: int, *, stride: int, norm: Norm, keep_prob: float = 1.0
    ):
        """
        Args:
            entries: two (state, operation).
            stride: of an operation on one of the cell's inputs.
            keep_prob: of an operation, at the end of the training.
        """
        super().__init__()
        (left, left_name), (right, right_name) = entries
        self._states = (left, right)
        strides = [stride if state < 2 else 1 for state in self._states]
        self.left = OPERATIONS[left_name](channels, stride=strides[0], norm=norm)
        self.right = OPERATIONS[right_name](channels, stride=strides[1], norm=norm)
        self.drop_path = GrowingDropPath(keep_prob)

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        left, right = (states[state] for state in self._states)
        return self.drop_path(self.left(left)) + self.drop_path(self.right(right))


class Cell(nn.Module):
    """
    Sums of pairs of operations; all of them are the cell's output, not activated.

    Reference: Auto-DeepLab (arXiv:1901.02985), Sec. 3.1. What reads the cell's inputs has its
    stride.
    """

    def __init__(
        self,
        genotype: Genotype,
        in_channels: Tuple[int, int],
        channels: int,
        *,
        stride: int,
        norm: Norm,
        keep_prob: float = 1.0,
    ):
        """
        Args:
            genotype: inputs and operations, of an even number.
            in_channels: of the cell before, and of the one before that.
            channels: of an operation.
            keep_prob: of an operation, at the end of the training.
        """
        super().__init__()
        current, previous = in_channels
        self.current = ConvNormAct(current, channels, 1, norm=norm)
        self.previous = (
            nn.Identity() if previous == channels else ConvNormAct(previous, channels, 1, norm=norm)
        )
        self.has_previous = previous != channels
        self.sums = nn.ModuleList(
            Sum(
                genotype[index : index + 2],
                channels,
                stride=stride,
                norm=norm,
                keep_prob=keep_prob,
            )
            for index in range(0, len(genotype), 2)
        )
        self.out_channels = channels * len(self.sums)

    def forward(self, current: Tensor, previous: Tensor) -> Tensor:
        """
        Args:
            current: (N, C, h, w) of the cell before.
            previous: of the one before that, of any size.

        Returns:
            (N, out_channels, h', w').
        """
        height, width = current.shape[-2:]
        previous = resize_align_corners(previous, (height, width))
        if self.has_previous:
            previous = self.previous(F.relu(previous))
        states = [self.current(F.relu(current)), previous]
        for layer in self.sums:
            states.append(layer(states))
        return torch.cat(states[2:], dim=1)
