"""
Names in the checkpoints of Google's release of DeepLab v3+ (tensorflow/models, research/deeplab),
which TF-Slim wrote, and our parameters.

A name is a scope and a variable: ``xception_65/entry_flow/conv1_1/BatchNorm/gamma``. Patterns say
which module of ours a scope is, or which parameter a whole name is; those of backbones stand here,
those of a model's head in its record.
"""

import re
from typing import Callable, Dict, Iterator, Optional, Tuple

import numpy as np

from ..records import all_records
from .names import Parameter, dense_kernel, depthwise_kernel, unchanged

_SEPARABLE = r"unit_1/xception_module/separable_conv(\d)_(depthwise|pointwise)"
_UNIT = r"unit_(\d+)/xception_module/separable_conv(\d)_(depthwise|pointwise)"

# An operation of Auto-DeepLab.
_OPERATION = r"hnasnet/cell_(\d+)/comb_iter_(\d)/(left|right)"
_OURS = r"backbone.cells.\1.sums.\2.\3"

# Patterns of the scopes of backbones, and our modules.
_BACKBONES: Tuple[Tuple[str, str], ...] = (
    (r"xception_\d+/entry_flow/(conv1_\d)", r"backbone.\1"),
    (
        rf"xception_\d+/(entry|exit)_flow/block(\d+)/{_SEPARABLE}",
        r"backbone.\1_flow.block\2.separable_conv\3.\4",
    ),
    (
        r"xception_\d+/(entry|exit)_flow/block(\d+)/unit_1/xception_module/shortcut",
        r"backbone.\1_flow.block\2.shortcut",
    ),
    (
        rf"xception_\d+/middle_flow/block1/{_UNIT}",
        r"backbone.middle_flow.block\1.separable_conv\2.\3",
    ),
    (r"resnet_v1_\d+/(conv1_\d)", r"backbone.\1"),
    (
        r"resnet_v1_\d+/block(\d)/unit_(\d+)/bottleneck_v1/(conv\d|shortcut)",
        r"backbone.block\1.unit\2.\3",
    ),
    (r"hnasnet/(conv\d)", r"backbone.\1"),
    (r"hnasnet/(conv\d)_bn", r"backbone.\1.batch_norm"),
    (r"hnasnet/cell_(\d+)/1x1", r"backbone.cells.\1.current"),
    (r"hnasnet/cell_(\d+)/beginning_bn", r"backbone.cells.\1.current.batch_norm"),
    (r"hnasnet/cell_(\d+)/prev_1x1", r"backbone.cells.\1.previous"),
    (r"hnasnet/cell_(\d+)/prev_bn", r"backbone.cells.\1.previous.batch_norm"),
    (
        rf"{_OPERATION}/separable_\dx\d_(\d)/depthwise_weights",
        rf"{_OURS}.layer\4.depthwise_conv.weight",
    ),
    (
        rf"{_OPERATION}/separable_\dx\d_(\d)/pointwise_weights",
        rf"{_OURS}.layer\4.pointwise.conv.weight",
    ),
    (rf"{_OPERATION}/bn_sep_\dx\d_(\d)", rf"{_OURS}.layer\4.pointwise.batch_norm"),
    (rf"{_OPERATION}/atrous_\dx\d", rf"{_OURS}.conv"),
    (rf"{_OPERATION}/bn_atr_\dx\d", rf"{_OURS}.conv.batch_norm"),
    (r"hnasnet/(downsample_os\d+|classification_head)_conv", r"backbone.head.\1"),
    (r"hnasnet/(downsample_os\d+|classification_head)_bn", r"backbone.head.\1.batch_norm"),
)

# The classifier of a backbone's pretraining.
CLASSIFIER = re.compile(r"[^/]+/logits/(weights|biases)")

# The last word of a name: our tensor in a layer, and its layout.
_TENSORS: Dict[str, Tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "weights": ("conv.weight", dense_kernel),
    "depthwise_weights": ("depthwise_conv.weight", depthwise_kernel),
    # Of Auto-DeepLab alone, where a whole name is a parameter.
    "pointwise_weights": ("weight", dense_kernel),
    "biases": ("conv.bias", unchanged),
    "gamma": ("weight", unchanged),
    "beta": ("bias", unchanged),
    "moving_mean": ("running_mean", unchanged),
    "moving_variance": ("running_var", unchanged),
}
_NORM = "/BatchNorm"
# After an ASPP: there the pooled branch comes first, here last.
_PROJECTION = "concat_projection/weights"
_NUM_BRANCHES = 5
_SLIM_CLASSES = 1001


def slim_parameter(name: str) -> Optional[Parameter]:
    """Our parameter for a variable of such a checkpoint; None for one that no model of ours has."""
    scope, _, last = name.rpartition("/")
    if last not in _TENSORS:
        return None
    tensor, to_layout = _TENSORS[last]
    if name == _PROJECTION:
        to_layout = _projection
    if CLASSIFIER.fullmatch(name):
        to_layout = _without_background(to_layout)
    whole = _translate(name)
    if whole is not None:
        return Parameter(whole, to_layout)
    is_norm = scope.endswith(_NORM)
    module = _translate(scope[: -len(_NORM)] if is_norm else scope)
    if module is None:
        return None
    return Parameter(
        f"{module}.batch_norm.{tensor}" if is_norm else f"{module}.{tensor}", to_layout
    )


def _translate(text: str) -> Optional[str]:
    for pattern, ours in _rules():
        found = re.fullmatch(pattern, text)
        if found:
            return found.expand(ours)
    return None


def _rules() -> Iterator[Tuple[str, str]]:
    yield from _BACKBONES
    for _, record in all_records():
        yield from record.slim_scopes


def _without_background(
    to_layout: Callable[[np.ndarray], np.ndarray],
) -> Callable[[np.ndarray], np.ndarray]:
    """ImageNet's 1000 classes of TF-Slim's 1001, the first of which is no class."""

    def convert(array: np.ndarray) -> np.ndarray:
        values = to_layout(array)
        return values[1:] if len(values) == _SLIM_CLASSES else values

    return convert


def _projection(array: np.ndarray) -> np.ndarray:
    kernel = dense_kernel(array)
    return np.roll(kernel, -(kernel.shape[1] // _NUM_BRANCHES), axis=1)
