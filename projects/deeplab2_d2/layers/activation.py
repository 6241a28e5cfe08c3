"""Activation functions by DeepLab2's names."""

from functools import partial
from typing import Callable, Dict

import torch.nn.functional as F
from torch import Tensor, nn


def hard_sigmoid(features: Tensor) -> Tensor:
    """
    ``relu6(x + 3) / 6``, with DeepLab2's rounded factor.

    Its factor is 0.16667 where the exact one is 1 / 6: kept, because released weights of networks
    with squeeze-and-excite were trained with it (the difference is 2e-5 of the value).
    """
    return F.relu6(features + 3.0) * 0.16667


def _identity(features: Tensor) -> Tensor:
    return features


ACTIVATIONS: Dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "swish": F.silu,
    "silu": F.silu,
    "hard_swish": F.hardswish,
    "gelu": F.gelu,
    "approximated_gelu": partial(F.gelu, approximate="tanh"),
    "elu": F.elu,
    "hard_sigmoid": hard_sigmoid,
    "sigmoid": F.sigmoid,
    "softmax": partial(F.softmax, dim=-1),
    "none": _identity,
}


class Activation(nn.Module):
    """An activation function as a module without parameters."""

    def __init__(self, name: str, *, may_overwrite: bool = False):
        """
        Args:
            name: a key of ``ACTIVATIONS``, in any case. "softmax" is over the last dimension.
            may_overwrite: nothing else reads what is activated, so that it may be done in place.

        Raises:
            ValueError: for another name.
        """
        super().__init__()
        self.name, self.may_overwrite = name.lower(), may_overwrite
        if self.name not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, got {name!r}")

    def forward(self, features: Tensor) -> Tensor:
        if self.may_overwrite and self.name == "relu":
            # Of all activations its gradient alone needs no more than its output.
            return F.relu_(features)
        return ACTIVATIONS[self.name](features)

    def extra_repr(self) -> str:
        return self.name
