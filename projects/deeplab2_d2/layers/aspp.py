"""Atrous spatial pyramid pooling (DeepLab v3, arXiv:1706.05587, Sec. 3.3)."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .convolution import ConvNormAct, build_conv
from .norm import Norm
from .resizing import resize_align_corners


class ASPPConv(nn.Module):
    """A 3x3 atrous branch."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        atrous_rate: int,
        norm: Norm,
        activation: str = "relu",
        conv_type: str = "standard_conv",
    ):
        super().__init__()
        self.conv_bn_act = build_conv(
            conv_type,
            in_channels,
            out_channels,
            3,
            atrous_rate=atrous_rate,
            norm=norm,
            activation=activation,
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.conv_bn_act(features)


class ASPPPool(nn.Module):
    """
    The branch of means, resized to the input's size.

    With a ``pool_size`` the mean slides over the map (stride 1, no padding), so that in evaluation
    on larger images a pixel sees no more context than in training. The window is clamped to the
    map, where DeepLab2 raises for smaller images.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: Optional[Norm],
        pool_size: Optional[Tuple[int, int]] = None,
        activation: str = "relu",
    ):
        """
        Args:
            norm: None for neither norm nor bias.
            pool_size: (height, width) of the window, in pixels of the input; None for the mean
                over the whole map.
        """
        super().__init__()
        self.pool_size = pool_size
        self.conv_bn_act = ConvNormAct(
            in_channels, out_channels, 1, norm=norm, activation=activation, use_bias=False
        )

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[-2:]
        if self.pool_size is None:
            pooled = features.mean(dim=(2, 3), keepdim=True)
        elif not isinstance(height, int):
            return self._forward_of_symbols(features, height, width)
        else:
            window = (min(self.pool_size[0], height), min(self.pool_size[1], width))
            # Windows differ by one row or column: rows first, then columns, is cheaper than 2-D.
            pooled = F.avg_pool2d(features, (window[0], 1), stride=1)
            pooled = F.avg_pool2d(pooled, (1, window[1]), stride=1)
        return resize_align_corners(self.conv_bn_act(pooled), (height, width))

    def _forward_of_symbols(self, features: Tensor, height: Any, width: Any) -> Tensor:
        """The same as products with matrices, which exporters can write for every size."""
        assert self.pool_size is not None
        means_y, enlarging_y = _mean_and_enlarging(height, self.pool_size[0], features)
        means_x, enlarging_x = _mean_and_enlarging(width, self.pool_size[1], features)
        pooled = self.conv_bn_act(means_y @ features @ means_x.t())
        return enlarging_y @ pooled @ enlarging_x.t()


def _mean_and_enlarging(length: Any, window: int, like: Tensor) -> Tuple[Tensor, Tensor]:
    """
    The matrices of a sliding mean, and of the way back to the length, along an axis.

    Args:
        length: L, a symbolic integer or (of ``torch.jit.trace``) a tensor.
        window: k, pixels; min(k, L) counts.
        like: of the type and on the device wanted.

    Returns:
        (M + 1, L) and (L, M + 1), where M = L - min(k, L) + 1; a row more than there are means,
        which the way back leaves out, because no tracer has an axis that may be of length 1.
    """
    is_tensor = isinstance(length, Tensor)
    size = length.clamp(max=window) if is_tensor else torch.sym_min(length, window)
    count = length - size + 1
    place = torch.arange(length, device=like.device)
    mean = torch.arange(count + 1, device=like.device)
    ahead = place[None] - mean[:, None]
    means = ((ahead >= 0) & (ahead < size)).float() / size
    # Corners on corners: the mean that lies at a pixel, and how near the others are to it.
    position = place.float() * (count - 1) / (length - 1)
    enlarging = (1.0 - (position[:, None] - mean.float()).abs()).clamp(min=0.0)
    return means.to(like), enlarging.to(like)


class ASPP(nn.Module):
    """
    One 1x1, three 3x3 and one pooling branch, concatenated and projected; dropout at the end.

    With ``use_only_1x1`` just the projection, as for backbones that have attention.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        atrous_rates: Sequence[int] = (),
        norm: Norm,
        use_only_1x1: bool = False,
        pool_size: Optional[Tuple[int, int]] = None,
        has_pool_norm: bool = True,
        activation: str = "relu",
        conv_type: str = "standard_conv",
        dropout: float = 0.1,
    ):
        """
        Args:
            atrous_rates: three, in pixels of the input; not used with ``use_only_1x1``.
            pool_size: see :class:`ASPPPool`.
            has_pool_norm: the pooling branch has a norm, too.
            conv_type: of the atrous branches, see :func:`build_conv`.
            dropout: probability at the end, in training; not used with ``use_only_1x1``.

        Raises:
            ValueError: if there are not three rates where they are needed.
        """
        super().__init__()
        options: Dict[str, Any] = {"norm": norm, "activation": activation}
        self.use_only_1x1 = use_only_1x1
        if use_only_1x1:
            self.proj_conv_bn_act = ConvNormAct(in_channels, out_channels, 1, **options)
            return
        if len(atrous_rates) != 3:
            raise ValueError(f"atrous_rates must be three numbers, got {list(atrous_rates)}")
        self.conv_bn_act = ConvNormAct(in_channels, out_channels, 1, **options)
        rates: List[Dict[str, Any]] = [
            {"atrous_rate": rate, "conv_type": conv_type, **options} for rate in atrous_rates
        ]
        self.aspp_conv1 = ASPPConv(in_channels, out_channels, **rates[0])
        self.aspp_conv2 = ASPPConv(in_channels, out_channels, **rates[1])
        self.aspp_conv3 = ASPPConv(in_channels, out_channels, **rates[2])
        pool_options = options if has_pool_norm else {**options, "norm": None}
        self.aspp_pool = ASPPPool(in_channels, out_channels, pool_size=pool_size, **pool_options)
        self.proj_conv_bn_act = ConvNormAct(5 * out_channels, out_channels, 1, **options)
        self.proj_drop = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """
        Args:
            features: (N, in_channels, h, w).

        Returns:
            (N, out_channels, h, w).
        """
        if self.use_only_1x1:
            return self.proj_conv_bn_act(features)
        branches = (
            self.conv_bn_act,
            self.aspp_conv1,
            self.aspp_conv2,
            self.aspp_conv3,
            self.aspp_pool,
        )
        pyramid = torch.cat([branch(features) for branch in branches], dim=1)
        return self.proj_drop(self.proj_conv_bn_act(pyramid))
