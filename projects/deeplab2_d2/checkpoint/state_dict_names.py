"""
Names of other PyTorch repositories and ours: HRNet's, and those that models' records know.

A rule is (pattern, module, layer): a name that begins with the pattern is the module's here, and
its rest a tensor of a layer of that kind, see ``_LAYERS``.
"""

import re
from functools import lru_cache
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, TypeVar

from ..records import all_records

Rule = Tuple[str, str, str]
Value = TypeVar("Value")


def _residual(number_of_convolutions: int) -> Dict[str, str]:
    parts = {"downsample.0.": "shortcut.conv.", "downsample.1.": "shortcut.batch_norm."}
    for number in range(1, number_of_convolutions + 1):
        ours = f"conv{number}_bn" + ("" if number == number_of_convolutions else "_act")
        parts[f"conv{number}."] = f"{ours}.conv."
        parts[f"bn{number}."] = f"{ours}.batch_norm."
    return parts


# Kind of layer: the first words of a name in it, and ours.
_LAYERS: Dict[str, Dict[str, str]] = {
    "as_is": {"": ""},
    "convolution": {"0.": "conv.", "1.": "batch_norm."},
    "separable": {
        "0.0.": "depthwise.depthwise_conv.",
        "0.1.": "depthwise.batch_norm.",
        "1.": "pointwise.conv.",
        "2.": "pointwise.batch_norm.",
    },
    "basic": _residual(2),
    "bottleneck": _residual(3),
}

# HRNet's backbones. Transitions and fusions to coarser branches are sequences of convolutions,
# those to finer ones and within a resolution single convolutions.
_HRNET: Sequence[Rule] = (
    (r"conv(\d)\.(?=weight$)", r"conv\1.conv.", "as_is"),
    (r"bn(\d)\.", r"conv\1.batch_norm.", "as_is"),
    (r"layer1\.(\d+)\.", r"first_stage.\1.", "bottleneck"),
    (r"transition(\d)\.(\d)\.0\.(?=\d\.)", r"transitions.\1.\2.", "convolution"),
    (r"transition(\d)\.(\d)\.", r"transitions.\1.\2.", "convolution"),
    (r"stage(\d)\.(\d+)\.branches\.(\d)\.(\d+)\.", r"stages.\1.\2.branches.\3.\4.", "basic"),
    (
        r"stage(\d)\.(\d+)\.fuse_layers\.(\d)\.(\d)\.(\d)\.(?=\d\.)",
        r"stages.\1.\2.fusions.\3.\4.\5.",
        "convolution",
    ),
    (
        r"stage(\d)\.(\d+)\.fuse_layers\.(\d)\.(\d)\.",
        r"stages.\1.\2.fusions.\3.\4.0.",
        "convolution",
    ),
    (r"incre_modules\.(\d)\.0\.", r"trunk.increase.\1.", "bottleneck"),
    (r"downsamp_modules\.(\d)\.", r"trunk.downsample.\1.", "convolution"),
    (r"final_layer\.(?=\d)", "trunk.project.", "convolution"),
)
# Its transitions count from 1, its stages with branches from 2; lists here from 0.
_COUNTED_FROM = {"transitions": 1, "stages": 2}

# Before names, where a wrapper stood around the network.
_WRAPPERS = re.compile(r"(module\.|model\.)+")


def rename_state_dict(weights: Mapping[str, Value]) -> Optional[Tuple[Dict[str, Value], List[str]]]:
    """
    A state dict of another repository under our names.

    Args:
        weights: name to value.

    Returns:
        Our names to values, and the names that no model of ours has (ImageNet's classifier). None
        if less than half of the names are known: it is no such state dict.
    """
    renamed, unknown = {}, []
    for name, value in weights.items():
        if name.endswith("num_batches_tracked"):
            continue
        ours = published_name(name)
        if ours is None:
            unknown.append(name)
        else:
            renamed[ours] = value
    return (renamed, unknown) if len(renamed) > len(unknown) else None


@lru_cache(maxsize=None)
def published_name(name: str) -> Optional[str]:
    """Our name for a tensor of another repository's state dict; None for one that is not known."""
    name = _WRAPPERS.sub("", name, count=1) if _WRAPPERS.match(name) else name
    for pattern, module, layer in _rules():
        match = re.match(pattern, name)
        if match is None:
            continue
        rest = name[match.end() :]
        for theirs, ours in _LAYERS[layer].items():
            if rest.startswith(theirs):
                return _count(match.expand(module)) + ours + rest[len(theirs) :]
    return None


def _count(module: str) -> str:
    """The module with HRNet's numbers of stages and transitions counted from 0."""

    def shift(match: "re.Match[str]") -> str:
        return f"{match[1]}.{int(match[2]) - _COUNTED_FROM[match[1]]}."

    return re.sub(r"\b(transitions|stages)\.(\d)\.", shift, module)


def _rules() -> List[Rule]:
    rules = [
        (rf"(?:backbone\.)?{pattern}", "backbone." + module, layer)
        for pattern, module, layer in _HRNET
    ]
    for _, record in all_records():
        rules += record.state_dict_rules
    return rules
