"""Whether two objects are built alike: classes, and all that their constructors have kept."""

import dataclasses
from types import BuiltinFunctionType, FunctionType, MethodType

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig

# Of modules: what PyTorch keeps beside what a class sets.
_OF_TORCH = {name for name in vars(torch.nn.Module())} - {"training"}
_PLAIN = (str, bytes, int, float, bool, complex, type(None), type, torch.dtype, torch.device)


def differences(first, second, path="", seen=None):
    """Where two objects differ, as lines; lists and tuples of equal content do not."""
    seen = {} if seen is None else seen
    if (id(first), id(second)) in seen:
        return []
    # Kept, so that no other object gets the same id.
    seen[id(first), id(second)] = first, second
    if isinstance(first, (list, tuple, ListConfig)) and isinstance(
        second, (list, tuple, ListConfig)
    ):
        first, second = list(first), list(second)
        if len(first) != len(second):
            return [f"{path}: {first!r} and {second!r}"]
        pairs = enumerate(zip(first, second))
        return [d for k, (a, b) in pairs for d in differences(a, b, f"{path}[{k}]", seen)]
    if type(first) is not type(second):
        return [f"{path}: {first!r} and {second!r}"]
    if (
        isinstance(first, _PLAIN)
        or callable(first)
        and isinstance(first, (FunctionType, BuiltinFunctionType))
    ):
        return [] if first == second else [f"{path}: {first!r} and {second!r}"]
    if isinstance(first, MethodType):
        return differences(first.__func__, second.__func__, path, seen)
    if isinstance(first, torch.Tensor):
        same = first.shape == second.shape and first.requires_grad == second.requires_grad
        same = same and first.dtype == second.dtype
        return [] if same else [f"{path}: {tuple(first.shape)} and {tuple(second.shape)}"]
    if isinstance(first, np.ndarray):
        return [] if np.array_equal(first, second) else [f"{path}: {first!r} and {second!r}"]
    if isinstance(first, (set, frozenset)):
        return [] if first == second else [f"{path}: {first!r} and {second!r}"]
    if isinstance(first, (dict, DictConfig)):
        if list(first) != list(second):
            return [f"{path}: keys {list(first)} and {list(second)}"]
        return [d for k in first for d in differences(first[k], second[k], f"{path}.{k}", seen)]
    return differences(_attributes(first), _attributes(second), path, seen)


def _attributes(thing):
    if dataclasses.is_dataclass(thing):
        return {f.name: getattr(thing, f.name) for f in dataclasses.fields(thing)}
    if isinstance(thing, torch.nn.Module):
        own = {k: v for k, v in sorted(vars(thing).items()) if k not in _OF_TORCH}
        parts = {"parameters": thing._parameters, "buffers": thing._buffers}
        return {**own, **parts, "modules": thing._modules}
    return (
        dict(sorted(vars(thing).items())) if hasattr(thing, "__dict__") else {"repr": repr(thing)}
    )
