"""Adding features of several resolutions."""

from typing import List, Optional, Sequence, Tuple

from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from .activation import Activation
from .convolution import ConvNormAct
from .norm import Norm
from .resizing import resize_align_corners


class ResizedFuse(nn.Module):
    """
    Bring features to one number of channels and one size, and add them.

    A feature that has the channels is only resized. Another goes through activation, 1x1
    convolution and batch norm, with stride 2 if that is all that is missing.

    Reference: the stacked decoder of MaX-DeepLab (arXiv:2012.00759), Sec. 3.3.
    """

    def __init__(
        self,
        input_shapes: Sequence[ShapeSpec],
        *,
        channels: int,
        stride: int,
        norm: Norm,
        activation: str = "relu",
    ):
        """
        Args:
            input_shapes: channels and stride of each feature.
            channels, stride: of the result.
        """
        super().__init__()
        self.activation = Activation(activation)
        self._names: List[str] = []
        for index, shape in enumerate(input_shapes, start=1):
            name = ""
            if shape.channels != channels:
                is_strided = 2 * shape.stride == stride
                name = f"{'strided' if is_strided else 'resized'}_conv_bn{index}"
                layer = ConvNormAct(
                    shape.channels, channels, 1, stride=2 if is_strided else 1, norm=norm
                )
                self.add_module(name, layer)
            self._names.append(name)

    def forward(self, features: Sequence[Tensor], size: Tuple[int, int]) -> Tensor:
        """
        Args:
            features: (N, C, h, w) each.
            size: (height, width) of the result.

        Returns:
            (N, channels, height, width), not activated.
        """
        fused: Optional[Tensor] = None
        for name, feature in zip(self._names, features):
            if name:
                feature = getattr(self, name)(self.activation(feature))
            feature = resize_align_corners(feature, size)
            fused = feature if fused is None else fused + feature
        assert fused is not None
        return fused
