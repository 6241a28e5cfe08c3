"""Normalization: batch norm with TensorFlow's numbers, group and layer norm."""

import math
from dataclasses import dataclass
from typing import Any, Callable, Optional, Tuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm
from fvcore.nn.distributed import differentiable_all_reduce
from torch import Tensor, nn

BATCH_NORM_NAMES = ("SyncBN", "BN", "FrozenBN")
NORM_NAMES = (*BATCH_NORM_NAMES, "GN", "LN")

# Of group norm (arXiv:1803.08494, Tab. 3).
_NUM_GROUPS = 32

# (mean, mean of squares) of what is to be normalised, each (C,).
Moments = Tuple[Tensor, Tensor]


class TFBatchNorm2d(nn.BatchNorm2d):
    """
    Batch norm that differs from torch's in training, as TensorFlow's does.

    - The moving variance may be made of biased variances. TensorFlow's fused kernel (4-D inputs,
      one process) stores the unbiased ones, as torch; its synchronised and its 3-D and 5-D batch
      norms store the biased ones.
    - A single value a channel (the mean over a map, batch size 1) is normalised to the bias;
      torch raises.
    """

    def __init__(self, num_channels: int, *, eps: float, momentum: float, is_biased: bool = False):
        """
        Args:
            is_biased: store biased variances.
        """
        super().__init__(num_channels, eps=eps, momentum=momentum)
        self.is_biased = is_biased

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return super().forward(features)
        count = features.numel() // features.shape[1]
        if count == 1:
            return self._normalise_single_value(features)
        if not self.is_biased:
            return super().forward(features)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        # The operator keeps for backward what it moves, so that must not be changed afterwards.
        variance = self.running_var.clone()
        output = F.batch_norm(
            *(features, self.running_mean, variance, self.weight, self.bias, True),
            *(self.momentum, self.eps),
        )
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            # n / (n - 1) is what the operator has put in too much.
            kept = self.running_var.mul_(1.0 - self.momentum)
            kept.lerp_(variance, (count - 1) / count)
        return output

    def _normalise_single_value(self, features: Tensor) -> Tensor:
        mean = features.detach().flatten().to(self.weight.dtype)
        _move_running_statistics(self, mean, torch.zeros_like(mean))
        scale, shift = (parameter.view(1, -1, 1, 1) for parameter in (self.weight, self.bias))
        return ((features - features) * scale + shift).to(features.dtype)


class SyncBatchNorm2d(NaiveSyncBatchNorm):
    """
    Detectron2's batch norm over all processes, with its moments in float32 for bfloat16, too.

    That one does so for float16 alone. Its variance is a small difference of two means: of 8 bits
    it may be negative, and all that is normalised by it NaN.
    """

    def forward(self, features: Tensor) -> Tensor:
        if self.training and features.dtype == torch.bfloat16:
            return super().forward(features.float()).to(features.dtype)
        return super().forward(features)


class ChannelLayerNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel of (N, C, H, W)."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.movedim(1, 3)).movedim(3, 1)


@dataclass(frozen=True)
class Norm:
    """
    Which norm the layers of a network have.

    Attributes:
        name: "SyncBN" (statistics over all processes; plain where there is one process only),
            "BN", "FrozenBN" (constant statistics and scales), "GN" (32 groups of channels, or the
            largest power of two of them that divides the channels) or "LN" (over the channels of
            each pixel).
        epsilon: added to the variance.
        momentum: weight of the new batch in the moving statistics (1 - Keras's momentum).
    """

    name: str = "SyncBN"
    epsilon: float = 1e-3
    momentum: float = 0.01

    def __post_init__(self) -> None:
        if self.name not in NORM_NAMES:
            raise ValueError(f"norm name must be one of {NORM_NAMES}, got {self.name!r}")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Norm":
        """What ``MODEL.DEEPLAB2.NORM`` describes."""
        node = cfg.MODEL.DEEPLAB2.NORM
        return cls(name=node.NAME, epsilon=node.EPSILON, momentum=node.MOMENTUM)

    def build(self, num_channels: int, *, zero_init: bool = False) -> nn.Module:
        """
        A norm over the channels of (N, C, H, W).

        Args:
            num_channels: C.
            zero_init: start with scale 0, so that a residual branch begins as the identity
                (arXiv:1706.02677, Sec. 5.1).
        """
        if self.name in BATCH_NORM_NAMES:
            return self.build_batch_norm(num_channels, zero_init=zero_init)
        norm: Any
        if self.name == "GN":
            groups = math.gcd(num_channels, _NUM_GROUPS)
            norm = nn.GroupNorm(groups, num_channels, eps=self.epsilon)
        else:
            norm = ChannelLayerNorm(num_channels, eps=self.epsilon)
        if zero_init:
            nn.init.zeros_(norm.weight)
        return norm

    def build_batch_norm(
        self, num_channels: int, *, zero_init: bool = False, is_biased: bool = False
    ) -> nn.Module:
        """
        A batch norm, where no other one can be: what is normalised are similarities or positions.

        Args:
            num_channels, zero_init: see :meth:`build`.
            is_biased: the reference's tensor here is not 4-D, see :class:`TFBatchNorm2d`.

        Raises:
            ValueError: if the norm is another one.
        """
        if self.name not in BATCH_NORM_NAMES:
            raise ValueError(
                f"norm name must be one of {BATCH_NORM_NAMES} in attention, position encodings "
                f"and mask heads, got {self.name!r}"
            )
        if self.name == "FrozenBN":
            return FrozenBatchNorm2d(num_channels, eps=self.epsilon)
        if self.name == "SyncBN" and num_processes() > 1:
            # Detectron2's stores the biased variance; torch's does not, and needs a GPU.
            norm: Any = SyncBatchNorm2d(num_channels, eps=self.epsilon, momentum=self.momentum)
        else:
            norm = TFBatchNorm2d(
                num_channels,
                eps=self.epsilon,
                momentum=self.momentum,
                is_biased=is_biased or self.name == "SyncBN",
            )
        if zero_init:
            nn.init.zeros_(norm.weight)
        return norm


def is_batch_norm(norm: nn.Module) -> bool:
    """Whether a norm scales and shifts whole channels, the same for all pixels."""
    return isinstance(norm, (nn.BatchNorm2d, FrozenBatchNorm2d))


def has_batch_statistics(norm: nn.Module) -> bool:
    """Whether a batch norm would normalise by its input's statistics now."""
    return norm.training and not isinstance(norm, FrozenBatchNorm2d)


def scale_and_shift(
    norm: Any, moments: Optional[Callable[[], Moments]] = None
) -> Tuple[Tensor, Tensor]:
    """
    What a batch norm multiplies and adds: ``norm(x) = scale * x + shift``.

    For tensors that are never made as a whole, such as the three similarities of an attention,
    of which only the weighted sum is needed. In training this takes part in autograd and moves
    the running statistics, as ``norm`` does.

    Args:
        norm: from :meth:`Norm.build_batch_norm` with ``is_biased``.
        moments: of what would be normalised; needed where it :func:`has_batch_statistics`.

    Returns:
        ``(scale, shift)``, each (C,), of the batch norm's dtype.
    """
    if has_batch_statistics(norm):
        assert moments is not None
        mean, square = moments()
        if isinstance(norm, NaiveSyncBatchNorm) and num_processes() > 1:
            mean, square = differentiable_all_reduce(torch.stack([mean, square])) / num_processes()
        variance = (square - mean * mean).clamp(min=0.0).to(norm.weight.dtype)
        mean = mean.to(norm.weight.dtype)
        _move_running_statistics(norm, mean.detach(), variance.detach())
    else:
        mean, variance = norm.running_mean, norm.running_var
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return scale, norm.bias - mean * scale


def _move_running_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None and norm.momentum is not None
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance, norm.momentum)


def num_processes() -> int:
    """Of this training; 1 without distribution."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
