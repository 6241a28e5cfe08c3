"""The memory of the tensors that are alive, on any device, fake tensors too."""

import weakref
from typing import Any, Dict, Iterable, Optional, Tuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


class LiveMemory(TorchDispatchMode):
    """
    Counts the bytes of the storages that operations return, for as long as they are alive.

    Attributes:
        current: bytes that are alive.
        peak: most of them since the last :meth:`restart`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.current = 0
        self.peak = 0
        self._sizes: Dict[int, int] = {}

    def restart(self) -> None:
        """Begin a new peak."""
        self.peak = self.current

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Count what is alive already."""
        for tensor in tensors:
            self._add(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Tuple[Any, ...] = (), kwargs: Optional[Any] = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._add, result)
        return result

    def _add(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.current += self._sizes[key]
            self.peak = max(self.peak, self.current)
            weakref.finalize(storage, self._remove, key)
        return tensor

    def _remove(self, key: int) -> None:
        self.current -= self._sizes.pop(key)
