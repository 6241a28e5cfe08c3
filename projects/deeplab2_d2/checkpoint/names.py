"""
DeepLab2's checkpoint keys and our parameters: names and layouts.

A key is the path of a variable in DeepLab2's object graph, for example
``encoder/_stage2/_block1/_conv1_bn_act/_batch_norm/gamma``. Three tables say what it is called
here: the first words (which module of the model), the last word (which tensor of a layer), and in
between every word stays what it is, without its leading underscore:
``backbone.stage2.block1.conv1_bn_act.batch_norm.weight``. Keywords of Python get one behind.
"""

from dataclasses import dataclass
from keyword import iskeyword
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np

from ..records import all_records

# The first words of a backbone's keys, and its module; those of a model's other parts are in its
# record.
_BACKBONE = ("encoder/", "backbone.")

# A ConvNeXt that was saved by itself, as those trained on ImageNet were, has no "encoder/".
_LONE_BACKBONES = (
    ("downsample_layers/", "backbone.downsample_layers."),
    ("stages/", "backbone.stages."),
)

# Where DeepLab2's encoder stands in checkpoints that the TensorFlow Model Garden trained.
_MODEL_GARDEN_ENCODER = "backbone/_encoder/"


def unchanged(array: np.ndarray) -> np.ndarray:
    return array


def dense_kernel(array: np.ndarray) -> np.ndarray:
    """(..., in, out) to (out, in, ...): dense, 1-D and 2-D convolutions."""
    return np.moveaxis(array, (-1, -2), (0, 1))


def depthwise_kernel(array: np.ndarray) -> np.ndarray:
    """(h, w, in, multiplier) to (in * multiplier, 1, h, w); multiplier runs fastest."""
    height, width, channels, multiplier = array.shape
    return array.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)


def _flat(array: np.ndarray) -> np.ndarray:
    """Batch norm over several axes, as in attention ([term, head, channel]), to channels."""
    return array.reshape(-1)


# The last word of a key: our name for the tensor, and its layout.
_TENSORS: Dict[str, Tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "kernel": ("weight", dense_kernel),
    "depthwise_kernel": ("weight", depthwise_kernel),
    "bias": ("bias", unchanged),
    "gamma": ("weight", _flat),
    "beta": ("bias", _flat),
    "moving_mean": ("running_mean", _flat),
    "moving_variance": ("running_var", _flat),
    "embeddings": ("weight", unchanged),
    "qkv_kernel": ("qkv_kernel", unchanged),
    "memory_feature": ("memory_feature", unchanged),
    "cluster_centers": ("cluster_centers", unchanged),
    "layer_scale": ("layer_scale", _flat),
    # Of attention between heads and channels, which is kept as it is.
    "weight": ("weight", unchanged),
    "relative_position_embedding": ("relative_position_embedding", unchanged),
}


@dataclass(frozen=True)
class Parameter:
    """Our name for a DeepLab2 variable, and how its values are laid out here."""

    name: str
    to_layout: Callable[[np.ndarray], np.ndarray]

    def shape(self, shape: Tuple[int, ...]) -> Tuple[int, ...]:
        """The shape here of a variable with DeepLab2's ``shape``."""
        # One number seen as an array of any shape: nothing is allocated.
        return self.to_layout(np.broadcast_to(np.zeros((), np.float32), shape)).shape


# Keras counts only the layers with weights of a sequence.
_COUNTED = "layer_with_weights-"


def _attribute(word: str) -> str:
    if word.startswith(_COUNTED):
        return word[len(_COUNTED) :]
    word = word[1:] if word.startswith("_") else word
    return word + "_" if iskeyword(word) else word


def _modules() -> List[Tuple[str, str]]:
    """First words of keys and modules, the longest words first."""
    pairs = {pair for _, record in all_records() for pair in record.checkpoint_modules}
    return sorted({_BACKBONE, *_LONE_BACKBONES, *pairs}, key=lambda pair: (-len(pair[0]), pair))


def last_layers() -> Dict[str, List[str]]:
    """
    Group ("semantic", "instance") to the first words of the keys of layers that depend on the
    number of classes or on the task, which are dropped for fine-tuning.
    """
    groups: Dict[str, List[str]] = {}
    for _, record in all_records():
        for group, words in record.last_layers.items():
            known = groups.setdefault(group, [])
            known += [word for word in words if word not in known]
    return groups


def parameter_for_key(key: str) -> Optional[Parameter]:
    """
    Our parameter for a variable of DeepLab2; None for one that no model of ours has.

    Args:
        key: path in the object graph, without TensorFlow's ``/.ATTRIBUTES/VARIABLE_VALUE``.
    """
    if key.startswith(_MODEL_GARDEN_ENCODER):
        key = "encoder/" + key[len(_MODEL_GARDEN_ENCODER) :]
    for prefix, module in _modules():
        if key.startswith(prefix):
            *words, last = key[len(prefix) :].split("/")
            if last not in _TENSORS:
                return None
            tensor, to_layout = _TENSORS[last]
            path = [_attribute(word) for word in words]
            return Parameter(module + ".".join(path + [tensor]), to_layout)
    return None
