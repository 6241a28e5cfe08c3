"""The rule that defines the weights of ``torch_networks``, drawn by their state-dict keys."""

import math
import re
from typing import Optional, Sequence, Tuple

import numpy as np

from .rule import generator

# Factors on the draw, the first match counts.
_FACTORS: Tuple[Tuple[str, float], ...] = (
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


def torch_weight(key: str, shape: Sequence[int]) -> Optional[np.ndarray]:
    """
    The value of a state dict's entry, float32, in PyTorch's layout.

    Args:
        key: of the reference's state dict.
        shape: of the entry.

    Returns:
        None for ``num_batches_tracked``, which has no value.
    """
    random, last = generator(key), key.rpartition(".")[2]
    if last == "num_batches_tracked":
        return None
    if last == "weight" and len(shape) > 1:
        value = random.normal(0.0, math.sqrt(2.0 / math.prod(shape[1:])), size=tuple(shape))
    elif last in ("weight", "running_var"):
        value = random.uniform(0.5, 1.5, size=tuple(shape))
    else:
        value = random.normal(0.0, 0.1, size=tuple(shape))
    factor = next((f for pattern, f in _FACTORS if re.search(pattern, key)), 1.0)
    return (value * factor).astype(np.float32)
