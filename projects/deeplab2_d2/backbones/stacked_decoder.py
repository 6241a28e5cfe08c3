"""MaX-DeepLab's backbones: decoder stacks after the stages, and the memory path's outputs."""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from detectron2.layers import ShapeSpec
from torch import Tensor

from ..layers import ResizedFuse, SequenceConvNormAct, StageSpec
from ..structures import Memory, MemoryShape
from .residual_network import OUT_FEATURES, ResidualNetwork
from .table import StackedDecoderSpec

# Stride at which the decoder stacks turn back.
_HIGH_RESOLUTION_STRIDE = 4

PANOPTIC_FEATURES = ("feature_panoptic", "feature_semantic", "backbone_output")


@dataclass(frozen=True)
class DecoderStep:
    """
    A fusion in the decoder stacks, and the stages after it.

    Attributes:
        stride: of the step's features.
        undilated_stride: the same, but 32 at the output stride.
        fuse: name of the fusion.
        stages: names of the stages and their numbers of blocks.
        ends_backbone: the features after the first stage are the backbone's output.
    """

    stride: int
    undilated_stride: int
    fuse: str
    stages: Tuple[Tuple[str, int], ...]
    ends_backbone: bool = False


def plan_decoder(
    spec: StackedDecoderSpec, output_stride: int, *, is_panoptic: bool
) -> List[DecoderStep]:
    """
    The steps from the output stride up to stride 4 and down again, stack by stack.

    Args:
        is_panoptic: go on after the backbone's stacks. If not, there are no other steps.
    """
    steps: List[DecoderStep] = []
    is_backbone = spec.num_backbone_stacks > 0
    if not (is_backbone or is_panoptic):
        return steps
    num_stacks = spec.num_backbone_stacks + spec.num_extra_stacks
    stack, stride, goes_up = 0, output_stride, True
    while stack < num_stacks or stride > _HIGH_RESOLUTION_STRIDE:
        number = len(steps) + 1
        stride = stride // 2 if goes_up else stride * 2
        if stride == output_stride:
            stack, goes_up = stack + 1, True
        elif stride == _HIGH_RESOLUTION_STRIDE:
            goes_up = False
        fuse = f"decoder_stage{number}{'' if is_backbone else '_extra'}_resized_fuse"
        stages = [(f"decoder_stage{number}", 1)] if is_backbone else []
        ends = is_backbone and stride == output_stride and stack == spec.num_backbone_stacks
        is_backbone = is_backbone and not ends
        if not is_backbone and is_panoptic:
            stages.append((f"decoder_stage{number}_extra", spec.num_extra_blocks))
        undilated = 32 if stride == output_stride else stride
        steps.append(DecoderStep(stride, undilated, fuse, tuple(stages), ends))
        if ends and not is_panoptic:
            break
    return steps


class StackedDecoderNetwork(ResidualNetwork):
    """
    A residual network that continues with decoder stacks (MaX-DeepLab, Sec. 3.3).

    More endpoints: ``backbone_output``, after the backbone's stacks. If the row is panoptic also
    ``feature_panoptic`` (stride 4) and ``feature_semantic`` (for the auxiliary semantic head).
    With a memory path, ``forward`` also returns what the slots have gathered, if asked to.
    """

    def __init__(
        self,
        *,
        width_multiplier: float = 1.0,
        out_features: Optional[Sequence[str]] = None,
        **options: Any,
    ):
        """
        Args:
            width_multiplier, options: see :class:`ResidualNetwork`.
            out_features: default: what the heads can use.
        """
        super().__init__(width_multiplier=width_multiplier, **options)
        output_stride = self.options.output_stride
        decoder = self.spec.decoder
        assert decoder is not None
        self._steps = plan_decoder(decoder, output_stride, is_panoptic=self.spec.is_panoptic)
        kinds = dict(decoder.kinds)
        shape = self.endpoint_shapes["stage5"]
        self._has_extra_stage = self.spec.is_panoptic and decoder.num_backbone_stacks == 0
        if self._has_extra_stage:
            width = int(round(8 * decoder.channels_per_stride * width_multiplier))
            stage = StageSpec(kinds[32], width, decoder.num_extra_blocks, 32, stride=1)
            channels = self.add_stage("stage5_extra", shape.channels, stage, 16)
            shape = ShapeSpec(channels=channels, stride=output_stride)
        by_stride = self._features_by_stride(
            {name: self.endpoint_shapes[name] for name in self.endpoint_shapes}, shape
        )
        shapes: List[ShapeSpec] = []
        for step in self._steps:
            exact_channels = step.undilated_stride * decoder.channels_per_stride * width_multiplier
            fuse = ResizedFuse(
                [shape] + by_stride[step.stride][-2:],
                channels=int(round(exact_channels)),
                stride=step.stride,
                norm=self.norm,
                activation=self.options.activation,
            )
            self.add_module(step.fuse, fuse)
            out_channels = int(round(exact_channels))
            for name, num_blocks in step.stages:
                stage = StageSpec(
                    kinds[step.undilated_stride],
                    int(exact_channels // 4),
                    num_blocks,
                    step.undilated_stride,
                    stride=1,
                )
                out_channels = self.add_stage(name, out_channels, stage, step.stride)
            shape = ShapeSpec(channels=out_channels, stride=step.stride)
            by_stride[step.stride].append(shape)
            shapes.append(shape)
            if step.ends_backbone:
                self.endpoint_shapes["backbone_output"] = shape
        self._add_panoptic_endpoints(
            [shape for shape in shapes if shape.stride == _HIGH_RESOLUTION_STRIDE]
        )
        self.set_out_features(self._default_features() if out_features is None else out_features)

    def endpoints(self, images: Tensor) -> Dict[str, Tensor]:
        return self.endpoints_and_memory(images)[0]

    def endpoints_and_memory(self, images: Tensor) -> Tuple[Dict[str, Tensor], Optional[Memory]]:
        endpoints, memory = self.encode(images)
        features = endpoints["stage5"]
        if self._has_extra_stage:
            features, memory = self.stage5_extra(features, memory)
        by_stride = self._features_by_stride(endpoints, features)
        high_resolution: List[Tensor] = []
        height, width = images.shape[-2:]
        for step in self._steps:
            size = ((height - 1) // step.stride + 1, (width - 1) // step.stride + 1)
            features = getattr(self, step.fuse)([features] + by_stride[step.stride][-2:], size)
            for index, (name, _) in enumerate(step.stages):
                features, memory = getattr(self, name)(features, memory)
                if step.ends_backbone and index == 0:
                    endpoints["backbone_output"] = self.activation(features)
            by_stride[step.stride].append(features)
            if step.stride == _HIGH_RESOLUTION_STRIDE:
                high_resolution.append(self.activation(features))
        if self.spec.is_panoptic:
            self._put_panoptic_endpoints(endpoints, high_resolution)
        if self.memory_shape is None:
            return endpoints, None
        return endpoints, Memory(self.class_feature_extra(memory), self.mask_feature_extra(memory))

    def _features_by_stride(self, endpoints: Dict[str, Any], last: Any) -> Dict[int, List[Any]]:
        """The last feature of each stride, tensors or their shapes."""
        by_stride = {}
        for number, stride in enumerate((2, 4, 8, 16), start=1):
            by_stride[min(stride, self.options.output_stride)] = [endpoints[f"stage{number}"]]
        by_stride[self.options.output_stride] = [last]
        return by_stride

    def _semantic_index(self) -> Optional[int]:
        """Which visit of stride 4 the semantic features come from; None: the backbone's output."""
        decoder = self.spec.decoder
        return decoder.num_backbone_stacks if decoder and decoder.num_extra_stacks else None

    def _put_panoptic_endpoints(
        self, endpoints: Dict[str, Any], high_resolution: Sequence[Any]
    ) -> None:
        index = self._semantic_index()
        endpoints["feature_panoptic"] = high_resolution[-1]
        endpoints["feature_semantic"] = (
            endpoints["backbone_output"] if index is None else high_resolution[index]
        )

    def _add_panoptic_endpoints(self, high_resolution: Sequence[ShapeSpec]) -> None:
        if not self.spec.is_panoptic:
            return
        self._put_panoptic_endpoints(self.endpoint_shapes, high_resolution)
        memory = self.spec.memory
        if memory is None:
            return
        for name in ("class_feature_extra", "mask_feature_extra"):
            layer = SequenceConvNormAct(
                memory.channels,
                memory.feature_channels,
                norm=self.norm,
                activation=self.options.activation,
            )
            self.add_module(name, layer)
        channels = memory.feature_channels
        self.memory_shape = MemoryShape(memory.num_slots, channels, channels)

    def _default_features(self) -> List[str]:
        names = OUT_FEATURES + PANOPTIC_FEATURES
        return [name for name in names if name in self.endpoint_shapes]
