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

    ``backbone_output`` is what the network ends with: the branches at stride 4, concatenated
    ("HRNetV2"), or, if it keeps ImageNet's head, the trunk's 2048 channels at the output stride.
    """

    def __init__(
        self,
        *,
        spec: HighResolutionSpec,
        norm: Norm,
        in_channels: int = 3,
        output_stride: int = 32,
        width_multiplier: float = 1.0,
        fusion: str = "aligned",
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
            out_features: endpoints that ``forward`` returns; default: the branches, and the trunk
                of a network that has one.
        """
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
        self.endpoint_shapes[LAST] = (
            ShapeSpec(channels=sum(channels), stride=BRANCH_STRIDES[0])
            if self.trunk is None
            else ShapeSpec(channels=self.trunk.out_channels, stride=min(32, output_stride))
        )
        if out_features is None:
            out_features = OUT_FEATURES + ((LAST,) if self.trunk is not None else ())
        self.set_out_features(out_features)

    def endpoints(self, images: Tensor) -> Dict[str, Tensor]:
        endpoints = self._branches(images)
        endpoints[LAST] = self._last(endpoints)
        return endpoints

    def forward(self, images: Tensor) -> Dict[str, Tensor]:
        # What is last costs as much as a stage: only where it is asked for.
        endpoints = self._branches(images)
        if LAST in self._out_features:
            endpoints[LAST] = self._last(endpoints)
        return {name: endpoints[name] for name in self._out_features}

    def _branches(self, images: Tensor) -> Dict[str, Tensor]:
        features = [self.activation(self.first_stage(self.conv2(self.conv1(images))))]
        transitions: Iterable[Any] = self.transitions
        for transition, stage in zip(transitions, self.stages):
            # A new branch begins at the coarsest there is.
            sources = features + [features[-1]] * (len(transition) - len(features))
            features = stage([layer(feature) for layer, feature in zip(transition, sources)])
        return dict(zip(OUT_FEATURES, features))

    def _last(self, endpoints: Dict[str, Tensor]) -> Tensor:
        branches: List[Tensor] = [endpoints[name] for name in OUT_FEATURES]
        if self.trunk is not None:
            return self.trunk(branches)
        size = (int(branches[0].shape[-2]), int(branches[0].shape[-1]))
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
