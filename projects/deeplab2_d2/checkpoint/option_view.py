"""DeepLab2's experiment options as data: checked against the schema, defaults filled in."""

from typing import Any, Dict, List, Mapping, Optional, Tuple

from .deeplab2_schema import MESSAGES, SCALARS, Field


class Options:
    """
    One message of DeepLab2's options: a value for every field, and which were said.

    Args:
        message: the message's name in the schema.
        values: the fields that are set, as parsed JSON; None where the message itself is not.
        path: where the message stands in the whole, for errors and reports.

    Raises:
        ValueError: for a field that the message does not have, or a value of another type.
    """

    def __init__(
        self, message: str, values: Optional[Mapping[str, Any]], path: Tuple[str, ...] = ()
    ) -> None:
        self.is_set = values is not None
        self._fields = MESSAGES[message]
        self._path = path
        if values is not None and not isinstance(values, Mapping):
            raise ValueError(f"{self.name()}: {message} must be a message, got {values!r}")
        unknown = sorted(set(values or ()) - set(self._fields))
        if unknown:
            raise ValueError(
                f"{self.name(unknown[0])}: DeepLab2's {message} has no such field "
                f"(it has {', '.join(self._fields)})"
            )
        self._values = {field: self._parse(field, value) for field, value in (values or {}).items()}

    def name(self, field: Optional[str] = None) -> str:
        """The dotted path of a field, or of the message."""
        return ".".join(self._path if field is None else self._path + (field,)) or "options"

    def fields(self) -> List[str]:
        """The fields that this message can have."""
        return list(self._fields)

    def has(self, field: str) -> bool:
        """Whether a field is set, be it to its default."""
        return field in self._values

    def value(self, field: str) -> Any:
        """A scalar field's value or default; a repeated one's list, empty where nothing is said."""
        default = self._fields[field].default
        value = self._values.get(field, default)
        return list(value) if self._fields[field].is_repeated else value

    def message(self, field: str) -> "Options":
        """A message field; one that is not set has its defaults and ``is_set`` False."""
        if field in self._values:
            return self._values[field]
        return Options(self._fields[field].type, None, self._path + (field,))

    def set_leaves(self) -> List[str]:
        """The dotted paths of all scalar fields that are set, here and below."""
        leaves: List[str] = []
        for field, value in self._values.items():
            children = value if self._fields[field].is_repeated else [value]
            if self._fields[field].is_message:
                leaves += [leaf for child in children for leaf in child.set_leaves()]
            else:
                leaves.append(self.name(field))
        return leaves

    def _parse(self, name: str, value: Any) -> Any:
        field = self._fields[name]
        if not field.is_repeated:
            return self._parse_one(field, name, value)
        values = value if isinstance(value, (list, tuple)) else [value]
        names = [f"{name}[{i}]" for i in range(len(values))]
        return [self._parse_one(field, name, value) for name, value in zip(names, values)]

    def _parse_one(self, field: Field, name: str, value: Any) -> Any:
        if field.is_message:
            return Options(field.type, value, self._path + (name,))
        if field.type == "float" and isinstance(value, int) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError as error:
                raise ValueError(f"{self.name(name)} must fit a float, got {value!r}") from error
        if type(value) is not SCALARS[field.type]:
            raise ValueError(f"{self.name(name)} must be of type {field.type}, got {value!r}")
        return value


class ConfigBuilder:
    """
    Collects config keys, and for every option where it went.

    Attributes:
        values: config key to value.
        mapped: option to the config keys that it decided.
        unsupported: option to the reason why nothing stands for it.
    """

    def __init__(self) -> None:
        self.values: Dict[str, Any] = {}
        self.mapped: Dict[str, List[str]] = {}
        self.unsupported: Dict[str, str] = {}

    def set(self, key: str, value: Any, *options: str) -> None:
        """Set a config key because of the options named."""
        self.values[key] = value
        for option in options:
            self.mapped.setdefault(option, []).append(key)

    def copy(self, options: Options, field: str, key: str) -> None:
        """Set a config key to a field's value."""
        self.set(key, options.value(field), options.name(field))

    def refuse(self, options: Options, field: str, reason: str) -> None:
        """Say why a field, and everything below it, has no equivalent; nothing if it is not set."""
        if not options.has(field):
            return
        name = options.name(field)
        leaves = [leaf for leaf in options.set_leaves() if leaf == name or is_below(leaf, name)]
        self.unsupported.update({leaf: reason for leaf in leaves})


def is_below(option: str, message: str) -> bool:
    """Whether an option stands inside the message (or list of messages) of that name."""
    return option.startswith((message + ".", message + "["))
