"""How config values are refused."""

from typing import Any, Iterable


def require(holds: bool, key: str, rule: str, value: Any) -> None:
    """
    Raises:
        ValueError: naming the key, the rule and the value, unless the rule holds.
    """
    if not holds:
        raise ValueError(f"config key {key} must be {rule}, got {value!r}")


def require_one_of(key: str, value: Any, allowed: Iterable[Any]) -> None:
    """
    Raises:
        ValueError: unless the value is one of those allowed.
    """
    allowed = list(allowed)
    require(value in allowed, key, "one of " + ", ".join(map(repr, allowed)), value)
