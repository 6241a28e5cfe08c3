"""The error that configs and command lines end in, and Detectron2's own in words for users."""

import difflib
import re
from typing import Iterator

from detectron2.config import CfgNode
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY


class ConfigError(ValueError):
    """A config file or an override that cannot be used; the message names it."""


# What Detectron2 says of a key that it does not know, of a value of another type, and of a name
# that nobody has registered.
_UNKNOWN_KEY = re.compile(r"Non-existent (?:config )?key: (\S+)")
_WRONG_TYPE = re.compile(
    r"Type mismatch \(<class '[\w.]*?(\w+)'> vs. <class '[\w.]*?(\w+)'>\) with values "
    r"\((.*) vs. (.*)\) for config key: (\S+)",
    re.DOTALL,
)
_UNKNOWN_NAME = re.compile(r"No object named '(.*)' found in '(\w+)' registry")
_REGISTRIES = {
    "META_ARCH": ("MODEL.META_ARCHITECTURE", META_ARCH_REGISTRY),
    "BACKBONE": ("MODEL.BACKBONE.NAME", BACKBONE_REGISTRY),
    "SEM_SEG_HEADS": ("MODEL.SEM_SEG_HEAD.NAME", SEM_SEG_HEADS_REGISTRY),
}


def explain(error: BaseException, cfg: CfgNode) -> str:
    """
    The message of an error that a config has led to: Detectron2's with key, rule, value, and what
    is near a misspelt word.

    Args:
        error: of merging, checking or building.
        cfg: whose keys a misspelt one may mean.
    """
    # str(KeyError) is the repr of its argument, quotes and escapes included.
    message = str(error.args[0]) if error.args else type(error).__name__
    unknown = _UNKNOWN_KEY.search(message)
    if unknown is not None:
        return message + _near(unknown[1], list(_keys(cfg)))
    wrong = _WRONG_TYPE.search(message)
    if wrong is not None:
        wanted, got, default, value, key = wrong.groups()
        example = f", as {default}" if wanted != "CfgNode" else ", whose keys stand below it"
        return f"config key {key} must be a {wanted}{example}, got {value!r} (a {got})"
    name = _UNKNOWN_NAME.search(message)
    if name is not None and name[2] in _REGISTRIES:
        key, registry = _REGISTRIES[name[2]]
        near = _near(name[1], [entry for entry, _ in registry])
        return f"config key {key} must be a registered name, got {name[1]!r}{near}"
    if isinstance(error, TypeError) and message.endswith("is not iterable"):
        return "a key must stand below a node of the config, got one below a value"
    return message


def _near(word: str, words: "list[str]") -> str:
    near = difflib.get_close_matches(word, words, n=2, cutoff=0.7)
    return f"; near it are {', '.join(near)}" if near else ""


def _keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield prefix + name
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{name}.")
