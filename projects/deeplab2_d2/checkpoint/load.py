"""Loading DeepLab2's variables into a model, with an account of every key."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np
import torch
from tabulate import tabulate
from torch import nn

from ..structures import new_names
from .moat_names import moat_parameter
from .names import Parameter, parameter_for_key
from .slim_names import slim_parameter

# Counters of torch's batch norm, which DeepLab2 has no variables for.
_COUNTERS = ("num_batches_tracked",)
# What the config says, whatever an older checkpoint holds.
_OF_CONFIG = ("pixel_mean", "pixel_std")


def is_weight(name: str) -> bool:
    """Whether a model needs this entry of its state from a checkpoint."""
    return name.rpartition(".")[2] not in _COUNTERS and name not in _OF_CONFIG


def summarize_names(names: Iterable[str]) -> str:
    """Parts of a model that names are of, with their numbers: ``head.semantic (12), ...``."""
    counts = Counter(".".join(name.split(".")[:-1][:2]) or name for name in names)
    return ", ".join(f"{part} ({count})" for part, count in counts.items())


@dataclass(frozen=True)
class LoadReport:
    """
    What became of the weights.

    Attributes:
        used: names of the parameters and buffers that were loaded.
        unused: keys of the checkpoint that the model has nothing for.
        missing: names in the model that the checkpoint has nothing for.
        mismatched: names of which the shapes differ: (checkpoint's, model's).
    """

    used: List[str] = field(default_factory=list)
    unused: List[str] = field(default_factory=list)
    missing: List[str] = field(default_factory=list)
    mismatched: Dict[str, Tuple[Tuple[int, ...], Tuple[int, ...]]] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every key was used and every parameter loaded."""
        return not (self.unused or self.missing or self.mismatched)

    def table(self, max_rows: Optional[int] = None) -> str:
        """The keys that do not fit, one a row; "" if all do."""
        rows: List[Tuple[str, ...]] = [("unused", name, "", "") for name in self.unused]
        rows += [("missing", name, "", "") for name in self.missing]
        rows += [("shape", name, *map(str, shapes)) for name, shapes in self.mismatched.items()]
        if not rows:
            return ""
        text = tabulate(rows[:max_rows], headers=("", "name", "checkpoint", "model"))
        left_out = len(rows) - len(rows[:max_rows])
        return text + (f"\n... and {left_out} more" if left_out else "")

    def summary(self) -> str:
        """The counts, in one line."""
        return (
            f"{len(self.used)} used, {len(self.unused)} unused, {len(self.missing)} missing, "
            f"{len(self.mismatched)} of another shape"
        )


def compare_shapes(
    checkpoint: Mapping[str, Tuple[int, ...]], model: Mapping[str, Tuple[int, ...]]
) -> LoadReport:
    """
    Hold a checkpoint's shapes against a model's, both under our names.

    Args:
        checkpoint: name to shape.
        model: name to shape; batch norm's counters are not asked for.
    """
    report = LoadReport()
    for name, shape in checkpoint.items():
        if name not in model:
            report.unused.append(name)
        elif tuple(model[name]) != tuple(shape):
            report.mismatched[name] = (tuple(shape), tuple(model[name]))
        else:
            report.used.append(name)
    report.missing.extend(
        name
        for name in model
        if name not in checkpoint and name.rpartition(".")[2] not in _COUNTERS
    )
    return report


def is_start(report: LoadReport, model: nn.Module) -> bool:
    """
    Whether weights are a start: all that an ImageNet network has, and at most a classifier, or all
    that an image model has of a video model.
    """
    if report.mismatched or not report.used:
        return False
    missing = {*report.missing} - new_names(model)
    if not (missing or report.unused):
        return True
    bodies = ("backbone.", *getattr(model, "twins", {}))
    return (
        all(name.startswith(bodies) for name in report.used)
        and not any(name.startswith(bodies) for name in missing)
        and not any(name.startswith(("head.", "sem_seg_head.")) for name in report.unused)
    )


def compare_deeplab2_shapes(
    variables: Mapping[str, Tuple[int, ...]], model: nn.Module
) -> LoadReport:
    """
    Hold DeepLab2's variables against a model, of which only shapes are looked at (meta device).

    Args:
        variables: DeepLab2's key to the variable's shape there.
        model: a model of ours.
    """
    unknown, checkpoint = [], {}
    for key, shape in variables.items():
        parameter = find_parameter(key)
        if parameter is None:
            unknown.append(key)
        else:
            checkpoint[parameter.name] = parameter.shape(tuple(shape))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    report = compare_shapes(checkpoint, shapes)
    report.unused[:0] = unknown
    return report


def find_parameter(key: str) -> Optional[Parameter]:
    """Our parameter for a key of DeepLab2's, MOAT's or research/deeplab's checkpoints."""
    return parameter_for_key(key) or moat_parameter(key) or slim_parameter(key)


def convert_variable(key: str, array: np.ndarray) -> Optional[Tuple[str, torch.Tensor]]:
    """
    One of DeepLab2's variables under our name and in our layout.

    Args:
        key: path in the object graph.
        array: the values, in DeepLab2's layout.

    Returns:
        Name and values, which own their memory; None if no model of ours has it.
    """
    parameter = find_parameter(key)
    if parameter is None:
        return None
    array = np.array(parameter.to_layout(array), order="C", copy=True)
    return parameter.name, torch.from_numpy(array)


def load_deeplab2_weights(model: nn.Module, arrays: Mapping[str, np.ndarray]) -> LoadReport:
    """
    Load DeepLab2's variables into a model, as far as names and shapes agree.

    Args:
        model: a model of ours. Parameters that are not loaded keep their values.
        arrays: DeepLab2's key (without TensorFlow's suffix) to the values, in its layout.

    Returns:
        An account of every key; it is for the caller to insist on ``is_complete``.
    """
    converted = {key: convert_variable(key, arrays[key]) for key in arrays}
    unknown = [key for key, pair in converted.items() if pair is None]
    tensors = dict(pair for pair in converted.values() if pair is not None)
    state = model.state_dict()
    report = compare_shapes(
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
        {name: tuple(tensor.shape) for name, tensor in state.items()},
    )
    model.load_state_dict({name: tensors[name] for name in report.used}, strict=False)
    report.unused[:0] = unknown
    return report
