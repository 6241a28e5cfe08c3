"""The pixel decoder of kMaX-DeepLab: from stride 32 up, with attention where pixels are few."""

from typing import List, Mapping, Sequence

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

# Features of the backbone that are read, from low to high resolution; the last for stride 2 alone.
BACKBONE_FEATURES = ("stage5", "stage4", "stage3", "stage2", "stage1")
_NORM_EPSILON = 1e-6
# Decoder stages with axial attention; the others are convolutions.
_NUM_AXIAL = 2
# DeepLab2 builds every stage as one of stride 32 in a network of stride 16: that is where the
# atrous rate 2 of the 3x3 convolutions comes from.
_STAGE_STRIDE, _NETWORK_STRIDE = 32, 16


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
        widths: Sequence[int],
        num_blocks: Sequence[int],
        norm: Norm,
    ):
        """
        Args:
            input_shape: of the backbone's features, of which ``stage5``, ``stage4`` and so on are
                read, one a stage.
            widths: of the stages, from stride 32 on: a stage returns four times its width.
            num_blocks: of the stages.

        Raises:
            ValueError: for a backbone without one of the features.
        """
        super().__init__()
        self.features = BACKBONE_FEATURES[: len(widths)]
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
            self.stages.append(_stage(channels, width, blocks, index < _NUM_AXIAL, norm))
            channels, stride = 4 * width, shape.stride
            self.output_shapes.append(ShapeSpec(channels=channels, stride=shape.stride))

    def forward(self, features: Mapping[str, Tensor]) -> List[Tensor]:
        """
        Args:
            features: name to (N, C, h, w), not activated.

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


def _stage(in_channels: int, width: int, num_blocks: int, is_axial: bool, norm: Norm) -> Stage:
    stage = StageSpec("bottleneck", width, num_blocks, input_stride=_STAGE_STRIDE, stride=1)
    options = StageOptions(
        output_stride=_NETWORK_STRIDE,
        activation="gelu",
        axial_beyond_stride=_NETWORK_STRIDE if is_axial else -1,
    )
    return Stage(in_channels, plan_blocks(stage, options), norm=norm)
