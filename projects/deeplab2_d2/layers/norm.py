"""Batch normalization with TensorFlow's numbers."""

from dataclasses import dataclass

import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm
from torch import nn

NORM_NAMES = ("SyncBN", "BN", "FrozenBN")


@dataclass(frozen=True)
class Norm:
    """
    Which batch norm the layers of a network have.

    Attributes:
        name: "SyncBN" (statistics over all processes; plain where there is one process only),
            "BN" or "FrozenBN" (constant statistics and scales).
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
        A batch norm over the channels of (N, C, H, W).

        Args:
            num_channels: C.
            zero_init: start with scale 0, so that a residual branch begins as the identity
                (arXiv:1706.02677, Sec. 5.1).
        """
        if self.name == "FrozenBN":
            return FrozenBatchNorm2d(num_channels, eps=self.epsilon)
        # Detectron2's SyncBN stores the biased variance, as DeepLab2's does; torch's does not.
        is_distributed = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        layer = NaiveSyncBatchNorm if self.name == "SyncBN" and is_distributed else nn.BatchNorm2d
        norm = layer(num_channels, eps=self.epsilon, momentum=self.momentum)
        if zero_init:
            nn.init.zeros_(norm.weight)
        return norm
