"""Families of backbones: what each registers, its config node and how networks are built."""

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Tuple

from detectron2.config import CfgNode

from ..layers import Norm
from .endpoints import EndpointBackbone


@dataclass(frozen=True)
class SharedOptions:
    """
    What every network takes, whatever its family.

    Attributes:
        norm: for all its layers.
        in_channels: of the images (with what a video network appends to them).
        output_stride: 8, 16 or 32 (any power of 2 from 4 on).
        width_multiplier: factor on the channels.
        image_size: (height, width) of the training images, for what is learned a pixel.
    """

    norm: Norm
    in_channels: int = 3
    output_stride: int = 32
    width_multiplier: float = 1.0
    image_size: Tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class BackboneFamily:
    """
    Networks that share their data and their config node.

    Attributes:
        node: name of the node under MODEL.DEEPLAB2.BACKBONE.
        names: of the networks; each builds its network without a multiplier.
        add_config: adds the family's keys to its node.
        check_config: refuses values that no network of the family can have; given the node and the
            beginning of its keys.
        build: name, node and shared options to the network. Refuses, naming the key, what this
            network cannot have or what would have no effect on it.
        in_classification: the keys of its node that classifiers of images have other values of,
            because the released ones were trained so.
    """

    node: str
    names: Tuple[str, ...]
    add_config: Callable[[CfgNode], None]
    check_config: Callable[[CfgNode, str], None]
    build: Callable[[str, CfgNode, SharedOptions], EndpointBackbone]
    in_classification: Mapping[str, Any] = field(default_factory=dict)


PREFIX = "MODEL.DEEPLAB2.BACKBONE."

_FAMILIES: List[BackboneFamily] = []


def register_family(family: BackboneFamily) -> None:
    """
    Make a family known.

    Raises:
        ValueError: if its node or one of its names is taken.
    """
    for other in _FAMILIES:
        taken = sorted(set(other.names) & set(family.names))
        if taken or other.node == family.node:
            raise ValueError(
                f"family {family.node} must have a node and names of its own, but "
                f"{', '.join(taken) or family.node} is taken by {other.node}"
            )
    _FAMILIES.append(family)


def families() -> Tuple[BackboneFamily, ...]:
    """Every family, in the order of registration."""
    return tuple(_FAMILIES)


def backbone_names() -> Tuple[str, ...]:
    """Every network's name."""
    return tuple(name for family in _FAMILIES for name in family.names)


def find_family(name: str) -> BackboneFamily:
    """
    The family of a network.

    Raises:
        ValueError: for a name that no family has.
    """
    by_name: Dict[str, BackboneFamily] = {n: family for family in _FAMILIES for n in family.names}
    if name not in by_name:
        raise ValueError(f"{PREFIX}NAME must be one of {backbone_names()}, got {name!r}")
    return by_name[name]


def default_node(family: BackboneFamily) -> CfgNode:
    """A family's node with its defaults."""
    node = CfgNode()
    family.add_config(node)
    return node


def changed_keys(node: CfgNode, defaults: CfgNode, prefix: str = "") -> List[str]:
    """The keys, dotted below ``node``, of which the values are not the defaults."""
    keys: List[str] = []
    for key, value in node.items():
        if isinstance(value, CfgNode):
            keys += changed_keys(value, defaults[key], f"{prefix}{key}.")
        elif value != defaults[key]:
            keys.append(prefix + key)
    return keys


def look_up(node: CfgNode, key: str) -> object:
    """The value of a dotted key."""
    value: object = node
    for part in key.split("."):
        value = value[part]  # type: ignore[index]
    return value


def reset_key(node: CfgNode, defaults: CfgNode, key: str) -> CfgNode:
    """A copy of a node in which one dotted key has its default."""
    copy = node.clone()
    copy.defrost()
    *parts, last = key.split(".")
    target, source = copy, defaults
    for part in parts:
        target, source = target[part], source[part]
    target[last] = source[last]
    return copy
