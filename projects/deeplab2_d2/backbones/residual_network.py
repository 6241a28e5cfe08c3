"""ResNets, wide ResNets and their descendants with attention: one class, rows of a table."""

from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ..layers import (
    Activation,
    ConvNormAct,
    DualPathSpec,
    InceptionStem,
    Norm,
    Stage,
    StageOptions,
    StageSpec,
    plan_blocks,
    truncated_normal_,
)
from .endpoints import EndpointBackbone
from .table import MemoryPathSpec, ResidualNetworkSpec

OUT_FEATURES = ("res2", "res3", "res4", "res5")

# Width of the dual-path transformer layers at stride 16 for an expansion of 1.
_TRANSFORMER_WIDTH = 128


class ResidualNetwork(EndpointBackbone):
    """
    A stem and stages of residual blocks.

    There is no max-pooling: the first block of stage 2 has stride 2. Endpoints are ``stage1`` ...
    ``stage5`` before the last activation, ``res1`` ... ``res5`` after it, and ``backbone_output``.
    """

    # Memory, transformer layers, and what stands after the pretrained stages (MaX-DeepLab,
    # arXiv:2012.00759, Sec. A.6).
    new_parts = ("transformer", "extra", "memory_feature")

    def __init__(
        self,
        *,
        spec: ResidualNetworkSpec,
        options: StageOptions,
        norm: Norm,
        in_channels: int = 3,
        stem_width_multiplier: float = 1.0,
        width_multiplier: float = 1.0,
        layer_multiplier: float = 1.0,
        out_features: Sequence[str] = OUT_FEATURES,
    ):
        """
        Args:
            spec: a row of the table.
            options: what the stages share.
            in_channels: of the images (with what a video network appends to them).
            stem_width_multiplier, width_multiplier: factors on channels, rounded; the latter on
                all stages but a wide first one.
            layer_multiplier: factor on the numbers of blocks, rounded down, at least 1.
            out_features: endpoints that ``forward`` returns.
        """
        super().__init__()
        self.spec, self.options, self.norm = spec, options, norm
        self.activation = Activation(options.activation)
        if spec.memory is not None:
            shape = (1, spec.memory.max_num_slots, spec.memory.channels)
            self.memory_feature = nn.Parameter(torch.empty(shape))
            truncated_normal_(self.memory_feature, std=1.0)
        self.stem, channels = _build_stem(
            spec, in_channels, stem_width_multiplier, options.activation, norm
        )
        stages = scale_stages(
            spec,
            stem_width_multiplier=stem_width_multiplier,
            width_multiplier=width_multiplier,
            layer_multiplier=layer_multiplier,
        )
        self._stages: List[str] = []
        shapes = {"stage1": ShapeSpec(channels=channels, stride=2)}
        for number, stage in enumerate(stages, start=6 - len(stages)):
            name = f"stage{number}"
            stride = options.stride_of(stage.input_stride * stage.stride)
            channels = self.add_stage(name, channels, stage, stage.input_stride)
            shapes[name] = ShapeSpec(channels=channels, stride=stride)
            self._stages.append(name)
        self.endpoint_shapes = {}
        for name, shape in shapes.items():
            self.endpoint_shapes[name] = shape
            self.endpoint_shapes[name.replace("stage", "res")] = shape
        self.endpoint_shapes["backbone_output"] = shapes["stage5"]
        self.set_out_features(out_features)

    def add_stage(
        self, name: str, in_channels: int, stage: StageSpec, transformer_stride: float
    ) -> int:
        """
        Add a stage under a name.

        Args:
            transformer_stride: what the width of its transformer layers is in proportion to.

        Returns:
            Its output channels.
        """
        module = Stage(
            in_channels,
            plan_blocks(stage, self.options),
            norm=self.norm,
            **_transformer_options(self.spec.memory, stage, transformer_stride, self.options),
            **_position_options(stage, self.options),
        )
        self.add_module(name, module)
        return module.out_channels

    def endpoints(self, images: Tensor) -> Dict[str, Tensor]:
        return self.encode(images)[0]

    def encode(self, images: Tensor) -> Tuple[Dict[str, Tensor], Optional[Tensor]]:
        """
        Every endpoint of stem and stages, and the memory after them.

        Returns:
            Name to (N, C, h, w); (N, memory channels, slots), or None without a memory path.
        """
        memory = self._initial_memory(images.shape[0])
        features = self.stem(images)
        endpoints = {"stage1": features}
        for name in self._stages:
            features, memory = getattr(self, name)(features, memory)
            endpoints[name] = features
        for name in list(endpoints):
            endpoints[name.replace("stage", "res")] = self.activation(endpoints[name])
        endpoints["backbone_output"] = endpoints["res5"]
        return endpoints, memory

    def _initial_memory(self, num_images: int) -> Optional[Tensor]:
        if self.spec.memory is None:
            return None
        slots = self.memory_feature[:, : self.spec.memory.num_slots]
        return slots.transpose(1, 2).expand(num_images, -1, -1)


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
        factor = stem_width_multiplier if is_wide_first else spec.width * width_multiplier
        width = stage.width * factor
        blocks = stage.num_blocks
        if not is_wide_first:
            blocks = max(1, int(stage.num_blocks * layer_multiplier))
        stages.append(replace(stage, width=int(round(width)), num_blocks=blocks))
    return tuple(stages)


def _transformer_options(
    memory: Optional[MemoryPathSpec],
    stage: StageSpec,
    transformer_stride: float,
    options: StageOptions,
) -> Dict[str, Any]:
    if memory is None or stage.input_stride * stage.stride < memory.transformer_beyond_stride:
        return {}
    return {
        "transformer": DualPathSpec(
            width=int(_TRANSFORMER_WIDTH * memory.base_expansion * transformer_stride / 16),
            num_heads=memory.num_heads,
            feed_forward_channels=memory.feed_forward_channels,
            use_memory_self_attention=memory.use_memory_self_attention,
            use_pixel_feedback=memory.use_pixel_feedback,
            attention_activation=memory.attention_activation,
            activation=options.activation,
        ),
        "memory_channels": memory.channels,
        "checkpoint_transformer": "transformer" in options.checkpointed_kinds,
    }


def _position_options(stage: StageSpec, options: StageOptions) -> Dict[str, Any]:
    output_stride = stage.input_stride * stage.stride
    if (
        options.position_encoding == "none"
        or stage.stride == 1
        or output_stride != options.global_beyond_stride
    ):
        return {}
    stride = options.stride_of(output_stride)
    height, width = ((side - 1) // stride + 1 for side in options.image_size)
    return {
        "position_encoding": options.position_encoding,
        "position_encoding_size": (height, width),
    }


def _build_stem(
    spec: ResidualNetworkSpec,
    in_channels: int,
    width_multiplier: float,
    activation: str,
    norm: Norm,
) -> Tuple[nn.Module, int]:
    if spec.stem == "inception":
        inception = InceptionStem(
            in_channels=in_channels,
            width_multiplier=width_multiplier * spec.stem_channels / 64,
            activation=activation,
            norm=norm,
        )
        return inception, inception.out_channels
    kernel_sizes = {"conv7x7": 7, "conv3x3": 3}
    if spec.stem not in kernel_sizes:
        raise ValueError(f"stem must be 'inception' or in {list(kernel_sizes)}, got {spec.stem!r}")
    channels = int(round(spec.stem_channels * width_multiplier))
    stem = ConvNormAct(in_channels, channels, kernel_sizes[spec.stem], stride=2, norm=norm)
    return stem, channels
