"""The networks of DeepLab v1 and v2 after the backbone: classifiers whose scores are summed."""

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...heads import shape_of
from ...layers import ConvNormAct, PaddedConv2d, resize_align_corners, zeros_
from .decoders import SemanticDecoder

_FINAL_STD = 0.01
_SIDE_STD = 0.001
_DROPOUT = 0.5


@dataclass(frozen=True)
class ClassifierSpec:
    """
    The classifiers as data.

    Attributes:
        feature: name of the backbone's feature that they read.
        rates: atrous rate of each, in pixels of that feature.
        hidden_channels: of two layers before the scores (VGG's fc6 and fc7); 0 for a single 3x3
            convolution to the classes (ResNet).
        averages_feature: a 3x3 mean of the feature first (v1).
        side_features: features of higher resolution with a small classifier each (v1, "MSc").
        side_channels: of the two layers of each of those.
    """

    feature: str
    rates: Tuple[int, ...]
    hidden_channels: int = 1024
    averages_feature: bool = False
    side_features: Tuple[str, ...] = ()
    side_channels: int = 128


class AtrousClassifier(nn.Module):
    """A 3x3 convolution with an atrous rate, to hidden layers or straight to the classes."""

    def __init__(
        self, in_channels: int, num_classes: int, *, atrous_rate: int, hidden_channels: int
    ):
        super().__init__()
        self.has_hidden = hidden_channels > 0
        if not self.has_hidden:
            self.final_conv = _final(in_channels, num_classes, 3, atrous_rate)
            return
        self.fc6 = ConvNormAct(
            in_channels, hidden_channels, 3, atrous_rate=atrous_rate, activation="relu"
        )
        self.fc7 = ConvNormAct(hidden_channels, hidden_channels, 1, activation="relu")
        self.drop = nn.Dropout(_DROPOUT)
        self.final_conv = _final(hidden_channels, num_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) to scores (N, num_classes, h, w)."""
        if self.has_hidden:
            features = self.drop(self.fc7(self.drop(self.fc6(features))))
        return self.final_conv(features)


class SideClassifier(nn.Module):
    """The small classifier of a feature of higher resolution; strided in training alone."""

    def __init__(self, in_channels: int, num_classes: int, *, channels: int, training_stride: int):
        super().__init__()
        self.training_stride = training_stride
        self.conv = PaddedConv2d(in_channels, channels, 3)
        self.hidden_conv = PaddedConv2d(channels, channels, 1)
        for layer in (self.conv, self.hidden_conv):
            nn.init.normal_(layer.weight, std=_SIDE_STD)
        self.drop = nn.Dropout(_DROPOUT)
        self.final_conv = _final(channels, num_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) to scores, in training of every ``training_stride``-th pixel."""
        stride = self.training_stride if self.training else 1
        hidden = F.conv2d(features, self.conv.weight, self.conv.bias, stride, padding=1)
        hidden = self.drop(self.hidden_conv(self.drop(hidden.relu())).relu())
        return self.final_conv(hidden)


def _final(in_channels: int, num_classes: int, kernel_size: int, rate: int = 1) -> PaddedConv2d:
    conv = PaddedConv2d(in_channels, num_classes, kernel_size, atrous_rate=rate)
    nn.init.normal_(conv.weight, std=_FINAL_STD)
    zeros_(conv.bias)
    return conv


class SummedClassifiers(SemanticDecoder):
    """
    The sum of atrous classifiers on one feature, and of classifiers of features beside it.

    Reference: DeepLab v1 (arXiv:1412.7062), Sec. 3 and 4.3 ("MSc"); v2 (arXiv:1606.00915), Sec. 3.2
    (ASPP). Without features beside it, the scores have the stride of the feature. With them the
    classifiers are so in training; in evaluation all are enlarged to the input's size, corners on
    corners, before they are summed.
    """

    def __init__(
        self, *, input_shape: Mapping[str, ShapeSpec], spec: ClassifierSpec, num_classes: int
    ):
        """
        Args:
            input_shape: of the backbone's features.

        Raises:
            ValueError: for a feature that is not in ``input_shape``.
        """
        super().__init__()
        shape = shape_of(input_shape, spec.feature)
        assert shape.stride is not None and shape.channels is not None
        self.stride, self.feature = shape.stride, spec.feature
        self.pool: Optional[nn.AvgPool2d] = None
        if spec.averages_feature:
            self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.branches = nn.ModuleList(
            AtrousClassifier(
                shape.channels,
                num_classes,
                atrous_rate=rate,
                hidden_channels=spec.hidden_channels,
            )
            for rate in spec.rates
        )
        self.side_branches = nn.ModuleDict()
        for name in spec.side_features:
            side = shape_of(input_shape, name)
            assert side.stride is not None and side.channels is not None
            self.side_branches[name] = SideClassifier(
                side.channels,
                num_classes,
                channels=spec.side_channels,
                training_stride=self.stride // side.stride,
            )

    def predict(self, features: Mapping[str, Tensor]) -> Tensor:
        read = features[self.feature]
        if self.pool is not None:
            read = self.pool(read)
        scores = self.branches[0](read)
        for branch in list(self.branches)[1:]:
            scores = scores + branch(read)
        if not self.side_branches:
            return scores
        if not self.training:
            height, width = ((side - 1) * self.stride + 1 for side in scores.shape[-2:])
            scores = resize_align_corners(scores, (height, width))
        for name, branch in self.side_branches.items():
            size = (int(scores.shape[-2]), int(scores.shape[-1]))
            scores = scores + resize_align_corners(branch(features[name]), size)
        return scores
