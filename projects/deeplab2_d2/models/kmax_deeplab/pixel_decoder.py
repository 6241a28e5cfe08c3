"""The pixel decoder of kMaX-DeepLab: from stride 32 up, with attention where pixels are few."""

from typing import List, Mapping, Sequence, Tuple

from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...layers import (
    ChannelLayerNorm,
    Norm,
    ResizedFuse,
    Stage,
    StageOptions,
    StageSpec,
    plan_blocks,
)

# Stages of the backbone that are read, from low to high resolution; the last for stride 2 alone.
_BACKBONE_STAGES = (5, 4, 3, 2, 1)
_NORM_EPSILON = 1e-6
# Decoder stages with axial attention; the others are convolutions.
_NUM_AXIAL = 2
# DeepLab2 builds every stage as one of stride 32 in a network of stride 16: that is where the
# atrous rate 2 of the 3x3 convolutions comes from.
_STAGE_STRIDE = 32


def backbone_features(is_activated: bool, mask_stride: int) -> Tuple[str, ...]:
    """
    Names of the backbone's features that a pixel decoder reads, from low to high resolution.

    Args:
        is_activated: after the activation of their stage, not before it.
        mask_stride: 4 or 2, of the last map.
    """
    prefix = "res" if is_activated else "stage"
    num_stages = {4: 4, 2: 5}[mask_stride]
    return tuple(f"{prefix}{number}" for number in _BACKBONE_STAGES[:num_stages])


def decoded_shapes(widths: Sequence[int]) -> List[ShapeSpec]:
    """Shapes of a pixel decoder's maps, from stride 32 on, by the widths of its stages."""
    return [
        ShapeSpec(channels=4 * width, stride=32 // 2**index) for index, width in enumerate(widths)
    ]


class PixelDecoder(nn.Module):
    """
    Features of the backbone to maps of stride 32, 16, 8, 4 and, if asked for, 2.

    Reference: kMaX-DeepLab (arXiv:2207.04044), Sec. 3.3 and DeepLab2's ``KMaXPixelDecoder``: layer
    norm on each feature, axial attention at strides 32 and 16, bottlenecks after that.
    """

    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        features: Sequence[str],
        widths: Sequence[int],
        num_blocks: Sequence[int],
        norm: Norm,
        atrous_rate: int = 2,
    ):
        """
        Args:
            input_shape: of the backbone's features.
            features: those that are read, one a stage, see :func:`backbone_features`.
            widths: of the stages, from stride 32 on: a stage returns four times its width.
            num_blocks: of the stages.
            atrous_rate: of the 3x3 convolutions, 1 or 2.

        Raises:
            ValueError: for a backbone without one of the features.
        """
        super().__init__()
        self.features = tuple(features)
        missing = [name for name in self.features if name not in input_shape]
        if missing:
            raise ValueError(
                f"kMaX-DeepLab needs a backbone with the features {list(self.features)}, such as "
                f"resnet50 or convnext_tiny; {missing} is not among {sorted(input_shape)}"
            )
        self.backbone_norms = nn.ModuleList()
        self.stages = nn.ModuleList()
        self.skip_connections = nn.ModuleList()
        channels, stride = input_shape[self.features[0]].channels, 0
        self.output_shapes: List[ShapeSpec] = []
        for index, (name, width, blocks) in enumerate(zip(self.features, widths, num_blocks)):
            shape = input_shape[name]
            self.backbone_norms.append(ChannelLayerNorm(shape.channels, eps=_NORM_EPSILON))
            if index:
                decoded = ShapeSpec(channels=channels, stride=stride)
                fuse = ResizedFuse(
                    [decoded, shape],
                    channels=width,
                    stride=shape.stride,
                    norm=norm,
                    activation="gelu",
                )
                self.skip_connections.append(fuse)
                channels = width
            self.stages.append(
                _stage(channels, width, blocks, index < _NUM_AXIAL, atrous_rate, norm)
            )
            channels, stride = 4 * width, shape.stride
            self.output_shapes.append(ShapeSpec(channels=channels, stride=shape.stride))

    def forward(self, features: Mapping[str, Tensor]) -> List[Tensor]:
        """
        Args:
            features: name to (N, C, h, w).

        Returns:
            (N, C, h, w) a stage, from stride 32 on, not activated.
        """
        decoded: List[Tensor] = []
        for index, (name, stage) in enumerate(zip(self.features, self.stages)):
            pixels = self.backbone_norms[index](features[name])
            if index:
                height, width = pixels.shape[-2:]
                pixels = self.skip_connections[index - 1]([decoded[-1], pixels], (height, width))
            decoded.append(stage(pixels)[0])
        return decoded


def _stage(
    in_channels: int, width: int, num_blocks: int, is_axial: bool, atrous_rate: int, norm: Norm
) -> Stage:
    stage = StageSpec("bottleneck", width, num_blocks, input_stride=_STAGE_STRIDE, stride=1)
    options = StageOptions(
        output_stride=_STAGE_STRIDE // atrous_rate,
        activation="gelu",
        axial_beyond_stride=_STAGE_STRIDE if is_axial else -1,
    )
    return Stage(in_channels, plan_blocks(stage, options), norm=norm)
