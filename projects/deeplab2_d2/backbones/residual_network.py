"""ResNets, wide ResNets and their descendants with attention: one class, rows of a table."""

from dataclasses import replace
from typing import Dict, List, Sequence, Tuple

from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..layers import (
    Activation,
    ConvNormAct,
    InceptionStem,
    Norm,
    Stage,
    StageOptions,
    StageSpec,
    plan_blocks,
)
from .endpoints import EndpointBackbone
from .table import ResidualNetworkSpec

OUT_FEATURES = ("res2", "res3", "res4", "res5")


class ResidualNetwork(EndpointBackbone):
    """
    A stem and stages of residual blocks.

    There is no max-pooling: the first block of stage 2 has stride 2. Endpoints are ``stage1`` ...
    ``stage5`` before the last activation and ``res1`` ... ``res5`` after it.
    """

    def __init__(
        self,
        *,
        spec: ResidualNetworkSpec,
        options: StageOptions,
        norm: Norm,
        stem_width_multiplier: float = 1.0,
        width_multiplier: float = 1.0,
        layer_multiplier: float = 1.0,
        out_features: Sequence[str] = OUT_FEATURES,
    ):
        """
        Args:
            spec: a row of the table.
            options: what the stages share; what the row decides is replaced by it.
            stem_width_multiplier, width_multiplier: factors on channels, rounded; the latter on
                all stages but a wide first one.
            layer_multiplier: factor on the numbers of blocks, rounded down.
            out_features: endpoints that ``forward`` returns.
        """
        super().__init__()
        self.options = replace(
            options,
            drop_path_beyond_stride=spec.drop_path_beyond_stride,
            attention_expansion=spec.attention_expansion,
            checkpointed_kinds=spec.checkpointed_kinds,
        )
        self.activation = Activation(options.activation)
        self.stem, channels = _build_stem(spec, stem_width_multiplier, options.activation, norm)
        stages = scale_stages(
            spec,
            stem_width_multiplier=stem_width_multiplier,
            width_multiplier=width_multiplier,
            layer_multiplier=layer_multiplier,
        )
        self._stages: List[str] = []
        shapes = {"stage1": ShapeSpec(channels=channels, stride=2)}
        for number, stage in enumerate(stages, start=6 - len(stages)):
            module = Stage(channels, plan_blocks(stage, self.options), norm=norm)
            self.add_module(f"stage{number}", module)
            self._stages.append(f"stage{number}")
            channels = module.out_channels
            stride = min(stage.input_stride * stage.stride, options.output_stride)
            shapes[f"stage{number}"] = ShapeSpec(channels=channels, stride=stride)
        self.endpoint_shapes = {}
        for name, shape in shapes.items():
            self.endpoint_shapes[name] = shape
            self.endpoint_shapes[name.replace("stage", "res")] = shape
        self.endpoint_shapes["backbone_output"] = shapes["stage5"]
        self.set_out_features(out_features)

    def endpoints(self, images: Tensor) -> Dict[str, Tensor]:
        features = self.stem(images)
        endpoints = {"stage1": features}
        for name in self._stages:
            features = getattr(self, name)(features)
            endpoints[name] = features
        for name in list(endpoints):
            endpoints[name.replace("stage", "res")] = self.activation(endpoints[name])
        endpoints["backbone_output"] = endpoints["res5"]
        return endpoints


def scale_stages(
    spec: ResidualNetworkSpec,
    *,
    stem_width_multiplier: float,
    width_multiplier: float,
    layer_multiplier: float,
) -> Tuple[StageSpec, ...]:
    """The row's stages with the multipliers applied."""
    stages = []
    for index, stage in enumerate(spec.stages):
        is_wide_first = spec.has_wide_first_stage and index == 0
        width = stage.width * (stem_width_multiplier if is_wide_first else width_multiplier)
        blocks = stage.num_blocks if is_wide_first else int(stage.num_blocks * layer_multiplier)
        stages.append(replace(stage, width=int(round(width)), num_blocks=blocks))
    return tuple(stages)


def _build_stem(
    spec: ResidualNetworkSpec, width_multiplier: float, activation: str, norm: Norm
) -> Tuple[nn.Module, int]:
    if spec.stem == "inception":
        stem = InceptionStem(
            width_multiplier=width_multiplier * spec.stem_channels / 64,
            activation=activation,
            norm=norm,
        )
        return stem, stem.out_channels
    kernel_sizes = {"conv7x7": 7, "conv3x3": 3}
    if spec.stem not in kernel_sizes:
        raise ValueError(f"stem must be 'inception' or in {list(kernel_sizes)}, got {spec.stem!r}")
    channels = int(round(spec.stem_channels * width_multiplier))
    return ConvNormAct(3, channels, kernel_sizes[spec.stem], stride=2, norm=norm), channels
