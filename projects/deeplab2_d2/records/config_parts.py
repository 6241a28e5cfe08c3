"""Config keys that a room or a folder adds to the shared ones."""

from dataclasses import dataclass
from typing import Callable, List, Tuple

from detectron2.config import CfgNode


@dataclass(frozen=True)
class ConfigPart:
    """
    Attributes:
        add_config: adds its keys to a config that has the shared ones.
        check_config: refuses values that cannot work (ValueError naming key, rule and value).
    """

    add_config: Callable[[CfgNode], None]
    check_config: Callable[[CfgNode], None]


_PARTS: List[ConfigPart] = []


def register_config_part(part: ConfigPart) -> None:
    """Let every config have the part's keys."""
    _PARTS.append(part)


def config_parts() -> Tuple[ConfigPart, ...]:
    """In the order of registration."""
    return tuple(_PARTS)
