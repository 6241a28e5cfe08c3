"""
The rule that defines the weights and inputs of the golden numbers, which are not stored.

Every array is drawn from a generator that is seeded by a text: the checkpoint key of a variable,
or the name of a case.
"""

import math
import re
import zlib
from typing import Sequence, Tuple

import numpy as np

# Factors on the draw, the first match counts: they keep activations and attention logits small.
_FACTORS: Tuple[Tuple[str, float], ...] = (
    (
        r"/_block\d+(_transformer)?/_(conv2|conv3|memory_conv3|pixel_conv3|memory_ffn_conv2"
        r"|kmeans_memory_conv3)_bn/_batch_norm/gamma$",
        0.25,
    ),
    (r"/qkv_kernel$|_(qkv|kv|v|query)_conv_bn/_conv/kernel$", 0.5),
    (r"/[^/]*similarity/gamma$", 0.2),
    (r"/[^/]*batch_norm_retrieved_output/gamma$", 0.5),
    (r"/_batch_norm_retrieved_value/gamma$", 0.5),
    (r"/_kmeans_memory_batch_norm_retrieved_value/gamma$", 0.1),
    (r"/_(resized|strided)_conv_bn\d+/_batch_norm/gamma$", 0.4),
    (r"/_switch/kernel$", 0.05),
    (r"_global_context/convolution/kernel$", 0.1),
    (r"^encoder/_blocks/1[345]/_conv3_bn/_batch_norm/gamma$", 0.1),
    (r"/_shrink_conv/kernel$|/_o_proj/weight$", 0.25),
)


# Of the name-based checkpoints (TF-Slim).
_SLIM_FACTORS: Tuple[Tuple[str, float], ...] = (
    (
        r"(entry_flow|middle_flow|exit_flow/block1)/.*/separable_conv3_pointwise/BatchNorm/gamma$",
        0.25,
    ),
    (
        r"(entry_flow|middle_flow|exit_flow/block1)/.*/separable_conv\d_pointwise/weights$",
        0.7,
    ),
    (r"/comb_iter_\d/(left|right)/.*/pointwise_weights$", 0.6),
    (r"^resnet_v1_.*/bottleneck_v1/conv3/BatchNorm/gamma$", 0.25),
    (r"^logits/semantic/weights$", 0.2),
)


# Of state dicts and of Caffe's layers.
_TORCH_FACTORS: Tuple[Tuple[str, float], ...] = (
    (r"(branches\.\d|layer1)\.(\d\.)+bn[23]\.weight$", 0.25),
    (r"fuse_layers\.\d\.\d\.([\d.]+)\.weight$", 0.5),
    (r"block(\d|1\d|20)\.sep_conv3\.block\.bn_point\.weight$", 0.25),
    (r"block(\d|1\d|20)\.sep_conv\d\.block\.pointwise\.weight$", 0.7),
    (r"\.increase\.bn\.weight$", 0.25),
    (r"^scale\w+_branch2c\.weight$", 0.25),
    (r"aspp\.c\d\.weight$|^fc1_voc12_c\d\.weight$", 0.3),
    (r"(semantic|center|offset)\.1\.weight$|last_layer\.3\.weight$", 0.5),
    (r"^classifier\.weight$", 0.3),
)


def generator(text: str) -> np.random.Generator:
    """The generator that belongs to a text."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(text.encode("utf-8"))))


def weight(key: str, shape: Sequence[int]) -> np.ndarray:
    """
    The value of a variable, float32, in the reference's layout.

    Args:
        key: its path in the reference's object graph.
        shape: its shape there.
    """
    return (_draw(key, tuple(shape)) * _factor(key)).astype(np.float32)


def slim_weight(name: str, shape: Sequence[int]) -> np.ndarray:
    """
    The value of a variable of a name-based checkpoint, float32, in TensorFlow's layout.

    Args:
        name: of the variable.
        shape: its shape there.
    """
    shape, last, random = tuple(shape), name.rpartition("/")[2], generator(name)
    if last in ("gamma", "moving_variance"):
        values = random.uniform(0.5, 1.5, size=shape)
    else:
        values = random.normal(0.0, _slim_deviation(last, shape), size=shape)
    return (values * _factor(name, _SLIM_FACTORS)).astype(np.float32)


def _slim_deviation(last: str, shape: Tuple[int, ...]) -> float:
    if last in ("biases", "beta", "moving_mean"):
        return 0.1
    fan_in = shape[0] * shape[1] if last == "depthwise_weights" else math.prod(shape[:-1])
    return math.sqrt(2.0 / fan_in)


def torch_weight(key: str, shape: Sequence[int]) -> np.ndarray:
    """
    The value of an entry of a state dict or of a layer of Caffe, float32, in PyTorch's layout.

    Args:
        key: of the entry.
        shape: its shape.
    """
    shape, last, random = tuple(shape), key.rpartition(".")[2], generator(key)
    if last == "weight" and len(shape) > 1:
        values = random.normal(0.0, math.sqrt(2.0 / math.prod(shape[1:])), size=shape)
    elif last in ("weight", "running_var"):
        values = random.uniform(0.5, 1.5, size=shape)
    else:
        values = random.normal(0.0, 0.1, size=shape)
    return (values * _factor(key, _TORCH_FACTORS)).astype(np.float32)


def normalized_input(case: str, shape: Sequence[int]) -> np.ndarray:
    """The input (N, H, W, C) of a network case, float32 in [-1, 1)."""
    return generator("input:" + case).uniform(-1.0, 1.0, size=tuple(shape)).astype(np.float32)


def image_input(case: str, shape: Sequence[int]) -> np.ndarray:
    """The image (N, H, W, 3) of a whole-model case, float32, whole numbers 0 .. 255."""
    values = generator("image:" + case).uniform(0.0, 256.0, size=tuple(shape))
    return np.floor(values).astype(np.float32)


def _factor(key: str, factors: Tuple[Tuple[str, float], ...] = _FACTORS) -> float:
    return next((factor for pattern, factor in factors if re.search(pattern, key)), 1.0)


def _draw(key: str, shape: Tuple[int, ...]) -> np.ndarray:
    random, last = generator(key), key.rpartition("/")[2]
    if last in ("gamma", "moving_variance"):
        return random.uniform(0.5, 1.5, size=shape)
    return random.normal(0.0, _standard_deviation(key, last, shape), size=shape)


def _standard_deviation(key: str, last: str, shape: Tuple[int, ...]) -> float:
    if last in ("bias", "beta", "moving_mean"):
        return 0.1
    if last in ("memory_feature", "cluster_centers"):
        return 1.0
    if last in ("kernel", "qkv_kernel"):
        return math.sqrt(2.0 / math.prod(shape[:-1]))
    if last == "depthwise_kernel":
        return math.sqrt(2.0 / (shape[0] * shape[1]))
    if last == "weight":
        return math.sqrt(2.0 / (shape[0] * shape[1] if "/_o_proj/" in key else shape[0]))
    return 1.0 / math.sqrt(shape[-1] if shape else 1.0)
