"""Of every backbone every key has an effect, or another value of it is an error."""

from dataclasses import is_dataclass
from typing import Any, Dict, Iterator, List, Tuple

import pytest
import torch
from detectron2.config import CfgNode
from narrow_backbones import ALIASES
from torch import Tensor
from torch.overrides import TorchFunctionMode

from deeplab2_d2.backbones import EndpointBackbone, SharedOptions, backbone_names, find_family
from deeplab2_d2.backbones.family import default_node, families, look_up
from deeplab2_d2.layers import Norm

# Of each key other values than its default, all of which are allowed.
OTHERS: Dict[str, Dict[str, Tuple[Any, ...]]] = {
    "RESIDUAL": {
        "STEM": ("conv7x7", "conv3x3", "inception"),
        "ACTIVATION": ("gelu",),
        "SQUEEZE_AND_EXCITE": (True,),
        "DROP_PATH": ([0.5, "constant"], [0.5, "linear"]),
        "STEM_WIDTH_MULTIPLIER": (0.5,),
        "LAYER_MULTIPLIER": (2.0,),
        "SAC_BEYOND_STRIDE": (8, 32),
        "CHECKPOINTED_KINDS": ([], ["basic"], ["bottleneck"], ["axial"], ["transformer"]),
        "DECODER": ([0, 1, 1], [1, 1, 2], [0, 0, 4]),
        "ATTENTION.AXIAL_BEYOND_STRIDE": (-1, 2, 16),
        "ATTENTION.GLOBAL": ([16, 1], [16, 2], [-1, 2]),
        "ATTENTION.POSITION_ENCODING": ("1D", "2D"),
        "ATTENTION.NUM_HEADS": (4,),
        "ATTENTION.EXPANSIONS": ([0.25, 0.75, 1.5],),
        "ATTENTION.TERMS": (["content"], ["query", "key", "value"]),
        "ATTENTION.ACTIVATION": ("sigmoid",),
        "ATTENTION.SPAN": (5,),
        "MEMORY.NUM_SLOTS": (20, 200),
        "MEMORY.CHANNELS": ([64, 96],),
        "MEMORY.BEYOND_STRIDE": (8, 32),
        "MEMORY.EXPANSION": (0.25,),
        "MEMORY.FEED_FORWARD_CHANNELS": (0, 64),
        "MEMORY.NUM_HEADS": (4,),
        "MEMORY.PATHS": ([], ["pixel_to_memory"], ["memory_to_memory"]),
        "MEMORY.ATTENTION_ACTIVATION": ("sigmoid",),
    },
    "MOBILENET_V3": {"REDUCED_LAST_BLOCK": (True,)},
    "VGG": {"CEIL_POOLING": (True,)},
    "PLAIN_RESNET": {"CEIL_POOLING": (True,), "MULTI_GRID": ([1, 2, 4],)},
    "XCEPTION": {"MULTI_GRID": ([1, 2, 4],)},
    "HRNET": {"FUSION": ("unaligned", "nearest"), "CONCATENATE": (True,)},
    "AUTO_DEEPLAB": {
        "GENOTYPE": ([[0, "atrous_3x3"], [1, "separable_5x5"]],),
        "PATH": ([0, 1, 2, 3, 2],),
        "HEAD": (True,),
        "DROP_PATH": (0.5,),
    },
    "CONVNEXT": {"DROP_PATH": (0.5,), "PAD_WINDOWS": (False,), "CHECKPOINT": (True,)},
    "MOAT": {
        "DROP_PATH": (0.5,),
        "POSITIONS": (False,),
        "WINDOWS": ([[2, 3], [2, 2]],),
        "LAST_IS_GLOBAL": (True,),
        "POOL_SIZE": (2,),
        "CHECKPOINT": (True,),
    },
}
# Of many layers, whose kinds are all in other rows of the table.
NAMES = [
    (
        pytest.param(name, marks=pytest.mark.slow)
        if name in ("max_deeplab_l", "max_deeplab_wide_resnet41")
        else name
    )
    for name in backbone_names()
    if name not in ALIASES
]
# What a key has no effect without.
NEEDS = {
    "ATTENTION.POSITION_ENCODING": ("ATTENTION.GLOBAL", [16, 1]),
    "LAST_IS_GLOBAL": ("WINDOWS", [[2, 3], [2, 2]]),
}


def leaf_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    """Dotted keys below a node."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaf_keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key


class Uninitialised(TorchFunctionMode):
    """Tensors are not filled: without numbers that takes most of the time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        fills = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        if fills and args and isinstance(args[0], Tensor):
            return args[0]
        return func(*args, **(kwargs or {}))


def build(name: str, *changes: Any, **shared: Any) -> EndpointBackbone:
    """The network of few blocks, without numbers; ``changes`` are keys and values."""
    family = find_family(name)
    node = default_node(family)
    if family.node == "RESIDUAL":
        # Of every stage one block or two.
        node.LAYER_MULTIPLIER = 0.34
    node.merge_from_list(list(changes))
    family.check_config(node, "")
    options = {"output_stride": 16, "image_size": (65, 97), **shared}
    with torch.device("meta"), Uninitialised():
        return family.build(name, node, SharedOptions(Norm("BN"), **options))


def is_data(value: Any) -> bool:
    """Whether a module's attribute is part of what it is made of."""
    return isinstance(value, (bool, int, float, str, tuple, list)) or is_dataclass(value)


def describe(backbone: EndpointBackbone) -> List[Any]:
    """
    Every layer with its data and the shapes of its parameters, and the memory's shape.

    Not the network's own attributes: it may remember what it has no layer for.
    """
    found: List[Any] = [backbone.memory_shape, list(backbone.endpoint_shapes.items())]
    for name, module in backbone.named_modules():
        if module is backbone:
            continue
        data = {key: repr(value) for key, value in vars(module).items() if is_data(value)}
        found.append((name, type(module), data))
    return found + [(name, tuple(p.shape)) for name, p in backbone.state_dict().items()]


def is_refused_or_another(name: str, before: List[Any], *changes: Any, **shared: Any) -> bool:
    try:
        changed = build(name, *changes, **shared)
    except ValueError as error:
        # What is wrong with the value is said.
        assert str(error)
        return True
    return describe(changed) != before


@pytest.mark.parametrize("name", NAMES)
def test_another_value_of_a_key_is_an_error_or_another_network(name: str) -> None:
    family, plain = find_family(name), describe(build(name))
    for key, values in OTHERS[family.node].items():
        needed = NEEDS.get(key, ())
        try:
            before = describe(build(name, *needed)) if needed else plain
        except ValueError:
            # What it needs cannot be had.
            before, needed = plain, ()
        assert look_up(default_node(family), key) not in values
        for value in values:
            changes = (*needed, key, value)
            assert is_refused_or_another(name, before, *changes), f"{key} {value!r}"
    for shared in ({"output_stride": 32}, {"width_multiplier": 0.5}, {"in_channels": 7}):
        assert is_refused_or_another(name, plain, **shared), shared


@pytest.mark.parametrize("node", [family.node for family in families()])
def test_every_key_of_a_family_is_tried(node: str) -> None:
    (family,) = [family for family in families() if family.node == node]
    assert set(OTHERS[node]) == set(leaf_keys(default_node(family)))


def test_a_value_without_effect_would_be_found() -> None:
    plain = describe(build("resnet_tiny"))
    # The default, said aloud.
    assert not is_refused_or_another("resnet_tiny", plain, "ACTIVATION", "relu")
    assert not is_refused_or_another("resnet_tiny", plain, "DROP_PATH", [1.0, "constant"])
