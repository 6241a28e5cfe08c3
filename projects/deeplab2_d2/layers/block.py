"""
The one general block of every backbone.

Reference: DeepLab2 (arXiv:2106.09748), end of Sec. 4: one block covers convolutional residual
blocks (basic, bottleneck, wide; each with or without switchable atrous convolution) and
attention (axial, global). Here it covers MobileNetV3's inverted bottleneck too.

A block is ``x + project(hidden(x))``. What ``hidden`` and ``project`` are made of is decided by
the block's kind, in the table at the end; a new kind is one more row there.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, Optional, Tuple, Type

from torch import Tensor, nn

from .activation import Activation
from .attention_2d import AxialAttention2d, GlobalAttention2d
from .attention_spec import AttentionSpec
from .checkpointing import checkpointed
from .convolution import ConvNormAct, DepthwiseConvNormAct
from .drop_path import DropPath
from .inference import is_plain_inference
from .norm import Norm
from .squeeze_and_excite import SimplifiedSqueezeAndExcite, SqueezeAndExcite

Layers = Dict[str, nn.Module]


@dataclass(frozen=True)
class BlockSpec:
    """
    A block as data.

    Attributes:
        kind: a key of ``BLOCK_KINDS``.
        channels: of the block's convolutions, first to last; see the kinds. The last are the
            block's output channels.
        kernel_size: of the spatial convolutions.
        stride: 1 or 2, in the first spatial operation.
        atrous_rate: of the first spatial convolution, in pixels of its input.
        second_atrous_rate: of the second ("basic" only). It differs in the first block of a stage
            whose stride was exchanged for a rate; otherwise the dense network would not compute
            the same values at the strided network's pixels.
        activation: see :class:`Activation`.
        use_sac: switchable atrous convolutions.
        use_squeeze_and_excite: the simplified form on the residual ("inverted" has the full form
            with ``squeezed_channels`` instead).
        squeezed_channels: inner channels of squeeze-and-excite in "inverted"; 0 for none.
        has_shortcut: add the block's input ("inverted" only; the others always do).
        attention: of "axial" and "global".
        drop_path_keep_prob: probability to keep the residual of a sample in training.
        use_checkpoint: in training, compute the inner values again in backward.
    """

    kind: str
    channels: Tuple[int, ...]
    kernel_size: int = 3
    stride: int = 1
    atrous_rate: int = 1
    second_atrous_rate: int = 1
    activation: str = "relu"
    use_sac: bool = False
    use_squeeze_and_excite: bool = False
    squeezed_channels: int = 0
    has_shortcut: bool = True
    attention: AttentionSpec = AttentionSpec()
    drop_path_keep_prob: float = 1.0
    use_checkpoint: bool = False

    def __post_init__(self) -> None:
        if self.kind not in BLOCK_KINDS:
            raise ValueError(f"block kind must be one of {sorted(BLOCK_KINDS)}, got {self.kind!r}")
        expected = BLOCK_KINDS[self.kind].num_channels
        if len(self.channels) != expected:
            raise ValueError(
                f"channels of a {self.kind} block must be {expected} numbers, got {self.channels}"
            )


class GeneralBlock(nn.Module):
    """
    One residual block of any kind, (N, in_channels, h, w) to (N, channels[-1], h', w').

    Input and output of all kinds but "inverted" are not activated: the block activates its input
    (for the shortcut, too), so that a network's features exist before and after activation.
    """

    def __init__(self, in_channels: int, spec: BlockSpec, *, norm: Norm):
        super().__init__()
        self.spec = spec
        kind = BLOCK_KINDS[spec.kind]
        hidden, project = kind.build(in_channels, spec, norm)
        self._hidden, self._project = tuple(hidden), tuple(project)
        for name, layer in {**hidden, **project}.items():
            self.add_module(name, layer)
        self.activation = Activation(spec.activation if kind.is_preactivated else "none")
        self.shortcut = _build_shortcut(in_channels, spec, norm) if kind.is_preactivated else None
        self.has_shortcut = kind.is_preactivated or (
            spec.has_shortcut and in_channels == spec.channels[-1]
        )
        self.squeeze_and_excite = (
            SimplifiedSqueezeAndExcite(spec.channels[-1]) if spec.use_squeeze_and_excite else None
        )
        self.drop_path = DropPath(spec.drop_path_keep_prob)

    def forward(self, features: Tensor) -> Tensor:
        return self.hidden_and_output(features)[1]

    def hidden_and_output(self, features: Tensor) -> Tuple[Tensor, Tensor]:
        """
        The block's output, and what its spatial operation returned (MobileNetV3's endpoints).

        Args:
            features: (N, in_channels, h, w).
        """
        if self.spec.use_checkpoint and self.training:
            return checkpointed(self, self._hidden_and_output, features)
        return self._hidden_and_output(features)

    def _hidden_and_output(self, features: Tensor) -> Tuple[Tensor, Tensor]:
        features = self.activation(features)
        hidden = features
        for name in self._hidden:
            hidden = getattr(self, name)(hidden)
        residual = hidden
        for name in self._project:
            residual = getattr(self, name)(residual)
        if self.squeeze_and_excite is not None:
            residual = self.squeeze_and_excite(residual)
        if not self.has_shortcut:
            return hidden, residual
        residual, carried = self.drop_path(residual), self._carry(features)
        # Only autograd would need it as it was.
        return hidden, residual.add_(carried) if is_plain_inference() else residual + carried

    def _carry(self, features: Tensor) -> Tensor:
        if self.shortcut is not None:
            return self.shortcut(features)
        stride = self.spec.stride
        return features if stride == 1 else features[:, :, ::stride, ::stride]


def _build_shortcut(in_channels: int, spec: BlockSpec, norm: Norm) -> Optional[nn.Module]:
    if in_channels == spec.channels[-1]:
        return None
    return ConvNormAct(in_channels, spec.channels[-1], 1, stride=spec.stride, norm=norm)


def _basic(in_channels: int, spec: BlockSpec, norm: Norm) -> Tuple[Layers, Layers]:
    """Two k x k convolutions."""
    first, second = spec.channels
    conv1 = ConvNormAct(
        in_channels,
        first,
        spec.kernel_size,
        stride=spec.stride,
        atrous_rate=spec.atrous_rate,
        norm=norm,
        activation=spec.activation,
        use_sac=spec.use_sac,
    )
    conv2 = ConvNormAct(
        first,
        second,
        spec.kernel_size,
        atrous_rate=spec.second_atrous_rate,
        norm=norm,
        use_sac=spec.use_sac,
        zero_init_norm=True,
    )
    return {"conv1_bn_act": conv1}, {"conv2_bn": conv2}


def _bottleneck(in_channels: int, spec: BlockSpec, norm: Norm) -> Tuple[Layers, Layers]:
    """1x1, k x k, 1x1; also the wide residual block, whose three channels grow."""
    first, second, third = spec.channels
    conv1 = ConvNormAct(in_channels, first, 1, norm=norm, activation=spec.activation)
    conv2 = ConvNormAct(
        first,
        second,
        spec.kernel_size,
        stride=spec.stride,
        atrous_rate=spec.atrous_rate,
        norm=norm,
        activation=spec.activation,
        use_sac=spec.use_sac,
    )
    conv3 = ConvNormAct(second, third, 1, norm=norm, zero_init_norm=True)
    return {"conv1_bn_act": conv1, "conv2_bn_act": conv2}, {"conv3_bn": conv3}


def _attention(
    layer: Type[nn.Module], in_channels: int, spec: BlockSpec, norm: Norm
) -> Tuple[Layers, Layers]:
    """1x1, self-attention of the width that the second number is, 1x1."""
    first, width, third = spec.channels
    conv1 = ConvNormAct(in_channels, first, 1, norm=norm, activation=spec.activation)
    attention: Any = layer(first, width=width, spec=spec.attention, norm=norm, stride=spec.stride)
    conv3 = ConvNormAct(attention.out_channels, third, 1, norm=norm, zero_init_norm=True)
    hidden = {
        "conv1_bn_act": conv1,
        "attention": attention,
        "attention_activation": Activation(spec.activation),
    }
    return hidden, {"conv3_bn": conv3}


def _inverted(in_channels: int, spec: BlockSpec, norm: Norm) -> Tuple[Layers, Layers]:
    """1x1 to more channels (none if the first number is 0), depthwise k x k, 1x1 to fewer."""
    expanded, out_channels = spec.channels[0] or in_channels, spec.channels[1]
    hidden: Layers = {}
    if spec.channels[0]:
        hidden["conv1_bn_act"] = ConvNormAct(
            in_channels, expanded, 1, norm=norm, activation=spec.activation
        )
    hidden["conv2_bn_act"] = DepthwiseConvNormAct(
        expanded,
        spec.kernel_size,
        stride=spec.stride,
        atrous_rate=spec.atrous_rate,
        norm=norm,
        activation=spec.activation,
    )
    project: Layers = {}
    if spec.squeezed_channels:
        project["squeeze_excitation"] = SqueezeAndExcite(expanded, spec.squeezed_channels)
    project["conv3_bn"] = ConvNormAct(expanded, out_channels, 1, norm=norm)
    return hidden, project


@dataclass(frozen=True)
class BlockKind:
    """
    What distinguishes a kind of block.

    Attributes:
        build: (in_channels, spec, norm) to the layers of ``hidden`` and of ``project``, by name.
        num_channels: how many numbers ``BlockSpec.channels`` has.
        is_preactivated: the block activates its input and always has a shortcut.
    """

    build: Callable[[int, BlockSpec, Norm], Tuple[Layers, Layers]]
    num_channels: int
    is_preactivated: bool = True


# Kinds whose convolutions can be switchable atrous ones.
SAC_KINDS = ("basic", "bottleneck")

BLOCK_KINDS: Dict[str, BlockKind] = {
    "basic": BlockKind(_basic, 2),
    "bottleneck": BlockKind(_bottleneck, 3),
    "axial": BlockKind(partial(_attention, AxialAttention2d), 3),
    "global": BlockKind(partial(_attention, GlobalAttention2d), 3),
    "inverted": BlockKind(_inverted, 2, is_preactivated=False),
}
