"""
Names in the published checkpoints of MOAT, which have no object graph, and our parameters.

A name is a path of scopes: ``moat/block_02_00/attention/q/weight``. With
``/ExponentialMovingAverage`` behind it is the variable's average.
"""

import re
from typing import Dict, Optional, Tuple

from .names import Parameter, parameter_for_key

AVERAGE = "/ExponentialMovingAverage"
ROOT = "moat/"

# Scopes, and where they stand in DeepLab2's object graph.
_SCOPES: Tuple[Tuple[str, str], ...] = (
    # A convolution, then a norm, and so on; Keras counts those with weights alone.
    (r"stem/conv_(\d+)/", "stem/{0}/"),
    (r"stem/norm_(\d+)/", "stem/{1}/"),
    (r"block_(\d+)_(\d+)/", "blocks/{0}/{1}/"),
)
# Scopes of the classifier, which are their own in the graph.
_CLASSIFIER = ("final_layer_norm/", "logits_head/")
# Scopes inside a block that are called otherwise in the graph.
_PARTS: Dict[str, str] = {
    "se/reduce_conv2d/": "se/se_reduce/",
    "se/expand_conv2d/": "se/se_expand/",
    "attention/q/": "attention/q_proj/",
    "attention/k/": "attention/k_proj/",
    "attention/v/": "attention/v_proj/",
    "attention/o/": "attention/o_proj/",
}


def moat_parameter(name: str) -> Optional[Parameter]:
    """Our parameter for a variable of such a checkpoint; None for one that no model of ours has."""
    if not name.startswith(ROOT):
        return None
    rest = name[len(ROOT) :]
    if rest.startswith(_CLASSIFIER):
        return parameter_for_key(rest)
    for pattern, place in _SCOPES:
        found = re.match(pattern, rest)
        if found:
            numbers = [int(number) for number in found.groups()]
            if place.startswith("stem"):
                numbers = [2 * numbers[0], 2 * numbers[0] + 1]
            rest = rest[found.end() :]
            for theirs, ours in _PARTS.items():
                rest = rest.replace(theirs, ours)
            return parameter_for_key("encoder/" + place.format(*numbers) + rest)
    return None
