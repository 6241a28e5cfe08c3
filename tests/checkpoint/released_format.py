"""Weights of ours as the variables of a released checkpoint: names and layouts the other way."""

from pathlib import Path
from typing import Dict, Mapping

import numpy as np
from bundle_writer import write_checkpoint
from torch import Tensor

from deeplab2_d2.checkpoint.load import convert_variable, is_weight

# Of Panoptic-DeepLab.
_MODULES = {
    "head.semantic_head.final_conv.": "semantic_last_layer/",
    "head.center_head.final_conv.": "instance_center_head_last_layer/",
    "head.offset_head.final_conv.": "instance_regression_head_last_layer/",
    "head.semantic_head.": "semantic_head_without_last_layer/",
    "head.center_head.": "instance_center_head_without_last_layer/",
    "head.offset_head.": "instance_regression_head_without_last_layer/",
    "head.semantic_decoder.": "semantic_decoder/",
    "head.instance_decoder.": "instance_decoder/",
    "backbone.": "encoder/",
}
_OF_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def write_released(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """
    Write a Panoptic-DeepLab as an unpacked archive of the zoo has it.

    Args:
        folder: of the archive's content.
        weights: the state of a model of ours.
    """
    variables: Dict[str, np.ndarray] = {}
    for name, tensor in weights.items():
        if is_weight(name):
            key, array = _variable(name, weights)
            variables[key] = array
            found = convert_variable(key, array)
            assert found is not None and found[0] == name and found[1].equal(tensor), name
    write_checkpoint(folder, variables, "ckpt-60000")


def _variable(name, weights):
    module, prefix = next(pair for pair in _MODULES.items() if name.startswith(pair[0]))
    *words, last = name[len(module) :].split(".")
    array = weights[name].numpy()
    is_norm = name.rpartition(".")[0] + ".running_mean" in weights
    if is_norm:
        last = _OF_NORM[last]
    elif last == "weight" and array.shape[1] == 1 and array.shape[0] > 1 and array.ndim == 4:
        # (channels, 1, h, w): each channel by itself.
        last, array = "depthwise_kernel", array.transpose(2, 3, 0, 1)
    elif last == "weight":
        last, array = "kernel", array.transpose(2, 3, 1, 0)
    return prefix + "/".join([*(f"_{word}" for word in words), last]), np.ascontiguousarray(array)
