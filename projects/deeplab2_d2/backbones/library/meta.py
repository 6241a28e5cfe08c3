"""Networks without memory for their numbers (meta device), built in a fraction of the time."""

from contextlib import contextmanager
from typing import Any, Iterator

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _Unfilled(TorchFunctionMode):
    """Nothing is filled with numbers: without memory for them that takes most of the time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        fills = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        if fills and args and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def without_numbers() -> Iterator[None]:
    """Modules that are built within have shapes alone."""
    with torch.device("meta"), _Unfilled():
        yield
