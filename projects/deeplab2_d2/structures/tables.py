"""Small constant tensors that are made once a process."""

from functools import lru_cache, wraps
from typing import Any, Callable, TypeVar

import torch
from torch import Tensor

Table = TypeVar("Table", bound=Callable[..., Tensor])


def cached_table(make: Table) -> Table:
    """
    Keep what a function makes, a tensor that nobody writes to, for the same arguments.

    While a graph is traced, where a new tensor is a fake one, nothing is kept nor taken from what
    is kept: a fake tensor would stay after the trace, and a real one would not fit into it.
    """

    @lru_cache(maxsize=64)
    def cached(*arguments: Any) -> Tensor:
        # Whoever asks first may be in inference mode, and the next one not.
        with torch.inference_mode(False):
            return make(*arguments)

    @wraps(make)
    def find(*arguments: Any) -> Tensor:
        is_traced = torch.compiler.is_compiling() or type(torch.empty(0)) is not Tensor
        return make(*arguments) if is_traced else cached(*arguments)

    return find  # type: ignore[return-value]
