"""The network: a stem, bottlenecks at stride 4, and stages that add a branch each."""

from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...layers import Activation, BlockSpec, ConvNormAct, GeneralBlock, Norm
from ..endpoints import EndpointBackbone
from .branches import BranchModule, Step, enlarge
from .head import ClassificationTrunk
from .table import BRANCH_STRIDES, BranchStageSpec, HighResolutionSpec

OUT_FEATURES = ("res2", "res3", "res4", "res5")

# The last features: of HRNet the four branches concatenated, of HRNet+ those of its trunk.
LAST = "backbone_output"


class HighResolutionNetwork(EndpointBackbone):
    """
    HRNet. Endpoints ``res2`` ... ``res5`` are the last stage's branches, of strides 4 to 32.

    ``backbone_output`` is, where there is one, what the network ends with: the branches at stride
    4, concatenated ("HRNetV2"), or the 2048 channels of ImageNet's head at the output stride.
    """

    # Every fusion lets all branches see each other, so that endpoints do not tell the stages.
    stage_parts = (
        ("conv1", "conv2"),
        ("first_stage",),
        ("transitions.0", "stages.0"),
        ("transitions.1", "stages.1"),
        ("transitions.2", "stages.2", "trunk"),
    )

    def __init__(
        self,
        *,
        spec: HighResolutionSpec,
        norm: Norm,
        in_channels: int = 3,
        output_stride: int = 32,
        width_multiplier: float = 1.0,
        fusion: str = "aligned",
        concatenates: bool = False,
        out_features: Optional[Sequence[str]] = None,
    ):
        """
        Args:
            spec: a row of ``HIGH_RESOLUTION_NETWORKS``.
            in_channels: of the images (with what a video network appends to them).
            output_stride: of the last branch; 16 makes it atrous with rate 2 (Panoptic-DeepLab,
                Sec. A.4), 8 the last two with rates 2 and 4.
            width_multiplier: factor on all channels, rounded.
            fusion: how branches are enlarged, a key of ``FUSIONS``.
            concatenates: end with the concatenated branches; not of a network with a head.
            out_features: endpoints that ``forward`` returns; default: all.

        Raises:
            ValueError: for a concatenation beside a head.
        """
        if concatenates and spec.keeps_head:
            raise ValueError("concatenates must be False for a network that keeps ImageNet's head")
        super().__init__()
        stages = [_scale(stage, width_multiplier) for stage in spec.stages]
        stem = _scaled(spec.stem_channels, width_multiplier)
        width = _scaled(spec.first_width, width_multiplier)
        self.fusion = fusion
        self.conv1 = ConvNormAct(in_channels, stem, 3, stride=2, norm=norm, activation="relu")
        self.conv2 = ConvNormAct(stem, stem, 3, stride=2, norm=norm, activation="relu")
        bottleneck = BlockSpec("bottleneck", (width, width, 4 * width))
        self.first_stage = nn.Sequential(
            *(
                GeneralBlock(4 * width if index else stem, bottleneck, norm=norm)
                for index in range(spec.first_blocks)
            )
        )
        self.activation = Activation("relu")
        self.transitions, self.stages = nn.ModuleList(), nn.ModuleList()
        channels: Tuple[int, ...] = (4 * width,)
        for stage in stages:
            self.transitions.append(_transitions(channels, stage.channels, output_stride, norm))
            self.stages.append(
                nn.Sequential(
                    *(
                        BranchModule(
                            stage,
                            block=spec.block,
                            output_stride=output_stride,
                            fusion=fusion,
                            norm=norm,
                        )
                        for _ in range(stage.num_modules)
                    )
                )
            )
            channels = stage.channels
        self.trunk: Optional[ClassificationTrunk] = None
        if spec.keeps_head:
            self.trunk = ClassificationTrunk(
                channels, output_stride=output_stride, width_multiplier=width_multiplier, norm=norm
            )
        self.endpoint_shapes = {
            name: ShapeSpec(channels=count, stride=min(stride, output_stride))
            for name, count, stride in zip(OUT_FEATURES, channels, BRANCH_STRIDES)
        }
        if self.trunk is not None:
            shape = ShapeSpec(channels=self.trunk.out_channels, stride=min(32, output_stride))
            self.endpoint_shapes[LAST] = shape
        elif concatenates:
            shape = ShapeSpec(channels=sum(channels), stride=BRANCH_STRIDES[0])
            self.endpoint_shapes[LAST] = shape
        self.set_out_features(list(self.endpoint_shapes) if out_features is None else out_features)

    def endpoints(self, images: Tensor) -> Dict[str, Tensor]:
        features = [self.activation(self.first_stage(self.conv2(self.conv1(images))))]
        transitions: Iterable[Any] = self.transitions
        for transition, stage in zip(transitions, self.stages):
            # A new branch begins at the coarsest there is.
            sources = features + [features[-1]] * (len(transition) - len(features))
            features = stage([layer(feature) for layer, feature in zip(transition, sources)])
        endpoints = dict(zip(OUT_FEATURES, features))
        if LAST in self.endpoint_shapes:
            endpoints[LAST] = self._last(features)
        return endpoints

    def _last(self, branches: List[Tensor]) -> Tensor:
        if self.trunk is not None:
            return self.trunk(branches)
        size = (branches[0].shape[-2], branches[0].shape[-1])
        return torch.cat([enlarge(branch, size, self.fusion) for branch in branches], dim=1)


def _scaled(channels: int, width_multiplier: float) -> int:
    return max(1, int(round(channels * width_multiplier)))


def _scale(stage: BranchStageSpec, width_multiplier: float) -> BranchStageSpec:
    channels = tuple(_scaled(count, width_multiplier) for count in stage.channels)
    return BranchStageSpec(stage.num_modules, stage.num_blocks, channels)


def _transitions(
    before: Sequence[int], after: Sequence[int], output_stride: int, norm: Norm
) -> nn.ModuleList:
    """What each branch of a stage goes through first: of an old one nothing, if it fits."""
    layers = nn.ModuleList()
    for index, channels in enumerate(after):
        if index < len(before):
            layers.append(
                nn.Identity()
                if before[index] == channels
                else ConvNormAct(before[index], channels, 3, norm=norm, activation="relu")
            )
        else:
            step = Step(index - 1, output_stride)
            layers.append(step.convolution(before[-1], channels, norm, "relu"))
    return layers
