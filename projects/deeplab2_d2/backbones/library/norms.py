"""The batch norms of a library's network as MODEL.DEEPLAB2.NORM says, with their own epsilons."""

from typing import Any

from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from ...layers import BATCH_NORM_NAMES, Norm, SyncBatchNorm2d, num_processes


class _SyncBatchNormAct(SyncBatchNorm2d):
    """With what timm's batch norms do after it."""

    def forward(self, features: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(features)))


class _FrozenBatchNormAct(FrozenBatchNorm2d):
    """With what timm's batch norms do after it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


def apply_norm(body: nn.Module, norm: Norm) -> None:
    """
    Give the batch norms of a network the kind and momentum of the config; all other norms stay.

    Epsilons stay as well: they are part of what the weights have been trained with.

    Args:
        body: changed in place.
        norm: "SyncBN", "BN" or "FrozenBN" for a network that has batch norms.

    Raises:
        ValueError: if the network has batch norms and the norm is of another kind.
    """
    found = [
        (parent, name, child)
        for parent in body.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.BatchNorm2d)
    ]
    if found and norm.name not in BATCH_NORM_NAMES:
        raise ValueError(
            f"config key MODEL.DEEPLAB2.NORM.NAME must be one of {BATCH_NORM_NAMES} for a network "
            f"with batch norms, got {norm.name!r}"
        )
    for parent, name, child in found:
        child.momentum = norm.momentum
        if norm.name == "FrozenBN":
            setattr(parent, name, _frozen(child))
        elif norm.name == "SyncBN" and num_processes() > 1:
            setattr(parent, name, _synchronised(child))


def _synchronised(norm: nn.BatchNorm2d) -> nn.Module:
    new: Any = _SyncBatchNormAct if hasattr(norm, "act") else SyncBatchNorm2d
    new = new(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(new, name, getattr(norm, name))
    return _with_rest(new, norm)


def _frozen(norm: nn.BatchNorm2d) -> nn.Module:
    new: Any = _FrozenBatchNormAct if hasattr(norm, "act") else FrozenBatchNorm2d
    new = new(norm.num_features, eps=norm.eps)
    for name in ("weight", "bias", "running_mean", "running_var"):
        setattr(new, name, getattr(norm, name).detach())
    return _with_rest(new, norm)


def _with_rest(new: nn.Module, norm: nn.Module) -> nn.Module:
    for name in ("act", "drop"):
        if hasattr(norm, name):
            setattr(new, name, getattr(norm, name))
    return new
