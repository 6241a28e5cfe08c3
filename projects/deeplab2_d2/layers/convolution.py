"""Convolutions padded as DeepLab2 pads them, with norm and activation."""

from typing import Any, Optional, Tuple, Union

import torch.nn.functional as F
from torch import Tensor, nn

from .activation import Activation
from .fused_convolution import FoldedKernel, FoldingModule, fused_convolution, is_fusible, may_fuse
from .inference import is_plain_inference
from .initialization import depthwise_glorot_uniform_, he_normal_, zeros_
from .norm import Norm, has_batch_statistics, is_batch_norm, scale_and_shift
from .switchable_atrous_convolution import GlobalContext, SwitchableAtrousConv2d

CONV_TYPES = ("standard_conv", "depthwise_separable_conv")

# Of both axes, or one of each: (vertical, horizontal).
AtrousRate = Union[int, Tuple[int, int]]


class PaddedConv2d(nn.Conv2d):
    """
    Convolution with ``(k_eff - 1) // 2`` zeros before and the rest of ``k_eff - 1`` after.

    ``k_eff = (kernel_size - 1) * atrous_rate + 1``. For odd kernels this is symmetric at every
    stride, so that features of all strides keep their top-left pixels aligned; TensorFlow's own
    "same" padding depends on the input's size where the stride is 2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        atrous_rate: AtrousRate = 1,
        groups: int = 1,
        use_bias: bool = True,
    ):
        """
        Args:
            atrous_rate: of an even kernel one of both axes.
        """
        is_one = isinstance(atrous_rate, int)
        rates = (atrous_rate, atrous_rate) if is_one else atrous_rate
        padding = tuple((kernel_size - 1) * rate // 2 for rate in rates)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=rates,
            groups=groups,
            bias=use_bias,
        )
        # Only even kernels need one pixel more at the bottom and at the right.
        total = (kernel_size - 1) * rates[0]
        self.padding_before, self.padding_after = total // 2, total - total // 2

    def reset_parameters(self) -> None:
        if self.groups > 1:
            depthwise_glorot_uniform_(self.weight)
        else:
            he_normal_(self.weight)
        zeros_(self.bias)

    def forward(self, features: Tensor) -> Tensor:
        return self.convolve(features, self.weight, self.bias)

    def convolve(self, features: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        """The convolution with another kernel and bias of the same shapes."""
        before, after = self.padding_before, self.padding_after
        if before != after:
            features = F.pad(features, (before, after, before, after))
            return F.conv2d(features, weight, bias, self.stride, 0, self.dilation, self.groups)
        return self._conv_forward(features, weight, bias)


def _convolve(
    conv: Any,
    kernel: FoldedKernel,
    norm: Optional[nn.Module],
    activation: Activation,
    features: Tensor,
) -> Tensor:
    """``activation(norm(conv(features)))``, in evaluation on a CPU as one operation."""
    if _is_padded_evenly(conv) and may_fuse(conv, norm, features):
        name = activation.name if is_fusible(activation.name) else "none"
        features = fused_convolution(conv, kernel, norm, name, features)
        return features if name == activation.name else activation(features)
    if norm is None:
        return activation(conv(features))
    return activation(_convolve_and_normalise(conv, norm, features))


def _convolve_and_normalise(conv: nn.Module, norm: nn.Module, features: Tensor) -> Tensor:
    """
    ``norm(conv(features))``, in evaluation on a CPU by one convolution with scaled kernels.

    That spares reading and writing the features once more, also where a compiler sees it. On a GPU
    the kernels would have to be scaled by several launches, which cost more there than they spare.
    """
    is_constant = is_batch_norm(norm) and not has_batch_statistics(norm)
    is_plain = isinstance(conv, PaddedConv2d) and is_plain_inference()
    if not (is_constant and is_plain and features.device.type == "cpu"):
        return norm(conv(features))
    scale, shift = scale_and_shift(norm)
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    return conv.convolve(features, conv.weight * scale.view(-1, 1, 1, 1), shift)


def _is_padded_evenly(conv: nn.Module) -> bool:
    """Whether a convolution has as much padding before as after."""
    return isinstance(conv, PaddedConv2d) and conv.padding_before == conv.padding_after


class ConvNormAct(FoldingModule):
    """
    Convolution, then optionally batch norm and activation.

    With ``use_sac``, a stride-1 convolution is switchable between two atrous rates, and the
    features' global context is added before and after it, at any stride (DetectoRS,
    arXiv:2006.02334, Sec. 3.3).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        atrous_rate: int = 1,
        norm: Optional[Norm] = None,
        activation: str = "none",
        use_sac: bool = False,
        zero_init_norm: bool = False,
        use_bias: Optional[bool] = None,
    ):
        """
        Args:
            norm: None for no batch norm.
            activation: see :class:`Activation`.
            zero_init_norm: start with the batch norm's scale at 0.
            use_bias: default: a bias where there is no batch norm.
        """
        super().__init__()
        use_bias = norm is None if use_bias is None else use_bias
        self.pre_global_context = GlobalContext(in_channels) if use_sac else None
        layer = SwitchableAtrousConv2d if use_sac and stride == 1 else PaddedConv2d
        self.conv = layer(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            atrous_rate=atrous_rate,
            use_bias=use_bias,
        )
        self.post_global_context = GlobalContext(out_channels) if use_sac else None
        self.batch_norm = norm.build(out_channels, zero_init=zero_init_norm) if norm else None
        self.activation = Activation(activation, may_overwrite=True)

    def forward(self, features: Tensor) -> Tensor:
        if self.pre_global_context is not None:
            features = self.pre_global_context(features)
        if self.post_global_context is None:
            return _convolve(self.conv, self._kernel, self.batch_norm, self.activation, features)
        features = self.post_global_context(self.conv(features))
        if self.batch_norm is not None:
            features = self.batch_norm(features)
        return self.activation(features)


class DepthwiseConvNormAct(FoldingModule):
    """One filter a channel, then optionally batch norm and activation."""

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        atrous_rate: AtrousRate = 1,
        norm: Optional[Norm] = None,
        activation: str = "none",
    ):
        super().__init__()
        self.depthwise_conv = PaddedConv2d(
            channels,
            channels,
            kernel_size,
            stride=stride,
            atrous_rate=atrous_rate,
            groups=channels,
            use_bias=norm is None,
        )
        self.batch_norm = norm.build(channels) if norm else None
        self.activation = Activation(activation, may_overwrite=True)

    def forward(self, features: Tensor) -> Tensor:
        return _convolve(
            self.depthwise_conv, self._kernel, self.batch_norm, self.activation, features
        )


class SeparableConvNormAct(nn.Module):
    """Depthwise convolution, then a 1x1 one, each with batch norm and activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        atrous_rate: AtrousRate = 1,
        norm: Optional[Norm] = None,
        activation: str = "none",
    ):
        super().__init__()
        self.depthwise = DepthwiseConvNormAct(
            in_channels,
            kernel_size,
            stride=stride,
            atrous_rate=atrous_rate,
            norm=norm,
            activation=activation,
        )
        self.pointwise = ConvNormAct(in_channels, out_channels, 1, norm=norm, activation=activation)

    def forward(self, features: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(features))


def build_conv(
    conv_type: str,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    norm: Optional[Norm],
    activation: str = "relu",
    atrous_rate: int = 1,
) -> nn.Module:
    """
    A convolution of decoders and heads.

    Args:
        conv_type: "standard_conv" or "depthwise_separable_conv".

    Raises:
        ValueError: for another ``conv_type``.
    """
    if conv_type not in CONV_TYPES:
        raise ValueError(f"conv_type must be one of {CONV_TYPES}, got {conv_type!r}")
    layer = ConvNormAct if conv_type == "standard_conv" else SeparableConvNormAct
    return layer(
        in_channels,
        out_channels,
        kernel_size,
        atrous_rate=atrous_rate,
        norm=norm,
        activation=activation,
    )
