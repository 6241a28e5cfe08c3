"""
Pickles of NumPy arrays, as Detectron2's model zoo has them, without running what they say.

A pickle calls functions by their names. Here a name means one of a few classes of this file, which
take numbers for numbers: NumPy's own functions for it believe what they are given, too.
"""

import collections
import math
import pickle
from typing import IO, Any, Dict, Set, Tuple

import numpy as np

_NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


def unpickle_arrays(file: IO[bytes]) -> Any:
    """
    Read a pickle of containers, numbers, texts and arrays of numbers.

    Raises:
        pickle.UnpicklingError: if it holds anything else.
        Exception: of many kinds, if it is damaged.
    """
    loaded = _Unpickler(file, encoding="latin1").load()
    return _finish(loaded)


class _Type:
    """In place of ``numpy.dtype``."""

    def __init__(self, name: Any = None, *options: Any) -> None:
        if name not in _NUMBERS:
            raise pickle.UnpicklingError(f"an array of type {name!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"an array of byte order {state[1]!r}")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """In place of ``numpy.ndarray``."""

    def __init__(self, *options: Any) -> None:
        self.values = np.zeros(0)

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        _, shape, kind, is_fortran, data = state
        self.values = _to_array(data, kind, shape, "F" if is_fortran else "C")


def _to_array(data: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    if isinstance(data, str):
        data = data.encode("latin1")  # Bytes of Python 2.
    is_shape = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not isinstance(kind, _Type) or not isinstance(data, (bytes, bytearray)) or not is_shape:
        raise pickle.UnpicklingError("an array without type, shape or numbers")
    if math.prod(shape) * kind.dtype.itemsize != len(data) or len(shape) > 32:
        raise pickle.UnpicklingError(f"an array of {shape[:32]} with {len(data)} bytes")
    # A copy of its own, in the byte order of this machine.
    values = np.frombuffer(data, kind.dtype).astype(kind.dtype.newbyteorder("="))
    return values.reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(*options: Any) -> _Array:
    return _Array()


def _scalar(kind: Any, data: Any) -> Any:
    return _to_array(data, kind, (), "C")[()]


def _frombuffer(data: Any, kind: Any, shape: Any, order: str) -> np.ndarray:
    return _to_array(data, kind, shape, order)


def _no_bytes() -> bytes:
    return b""


def _encode(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


_NAMES: Dict[Tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _encode,
    # Called with a number, it would make so many.
    ("__builtin__", "bytes"): _no_bytes,
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[_core + ".multiarray", "_reconstruct"] = _reconstruct
    _NAMES[_core + ".multiarray", "scalar"] = _scalar
    _NAMES[_core + ".numeric", "_frombuffer"] = _frombuffer


# The one in Python: the one in C takes as much memory as a file of 20 bytes asks for.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return _NAMES[module, name]


def _finish(loaded: Any) -> Any:
    """Arrays in place of what stands for them, in dicts and lists, also such within themselves."""
    seen: Set[int] = set()

    def finish(item: Any) -> Any:
        if isinstance(item, _Array):
            return item.values
        if isinstance(item, (dict, list)) and id(item) not in seen:
            seen.add(id(item))
            for key in list(item) if isinstance(item, dict) else range(len(item)):
                item[key] = finish(item[key])
        return item

    return finish(loaded)
