"""
Protocol buffers' text format to JSON, for DeepLab2's messages.

Google's library reads it, with a descriptor made from :mod:`.deeplab2_schema`. Ours are
``${NAME}`` placeholders, which DeepLab2's configs have, and errors that begin with the file.
"""

import json
import re
from functools import lru_cache
from typing import Any, Dict, Mapping, Optional

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from .deeplab2_schema import MESSAGES

_PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_STRING_OR_COMMENT = r""" "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' | \#[^\n]* """
_BARE_PLACEHOLDER = re.compile(f"{_STRING_OR_COMMENT} | {_PLACEHOLDER.pattern}", re.VERBOSE)
# What stands in a text as it is: numbers and words.
_SCALAR = re.compile(r"[-+.\w]+")

_PACKAGE = "deeplab2_d2"
_FieldProto = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "bool": _FieldProto.TYPE_BOOL,
    "int": _FieldProto.TYPE_INT64,
    "float": _FieldProto.TYPE_DOUBLE,
    "string": _FieldProto.TYPE_STRING,
}


class TextProtoError(ValueError):
    """
    Text that is malformed.

    Attributes:
        line: counted from 1.
        column: counted from 1, in characters.
    """

    def __init__(self, source: str, line: int, column: int, message: str) -> None:
        super().__init__(f"{source}:{line}:{column}: {message}")
        self.line = line
        self.column = column


def parse_textproto(
    text: str,
    message: str = "ExperimentOptions",
    *,
    source: str = "<text>",
    placeholders: Optional[Mapping[str, str]] = None,
) -> Dict[str, Any]:
    """
    Read a message.

    Args:
        text: protocol buffer text format.
        message: name of the message in the schema.
        source: the file's name, for errors.
        placeholders: values for ``${NAME}``. Others stay as they are inside strings.

    Returns:
        The fields that are set, as JSON.

    Raises:
        TextProtoError: with line and column; for an unknown field and a wrong value too.
    """
    placeholders = placeholders or {}
    descriptor = _pool().FindMessageTypeByName(f"{_PACKAGE}.{message}")
    parsed = message_factory.GetMessageClass(descriptor)()
    try:
        text_format.Parse(_fill_bare(text, placeholders, source), parsed)
    except text_format.ParseError as error:
        line, column = error.GetLine() or 1, error.GetColumn() or 1
        reason = str(error).removeprefix(f"{line}:{column} : ").replace(f"{_PACKAGE}.", "")
        raise TextProtoError(source, line, column, reason) from error
    except (RecursionError, OverflowError) as error:
        raise TextProtoError(source, 1, 1, f"the text cannot be read: {error}") from error
    return _to_json(parsed, placeholders)


@lru_cache(maxsize=None)
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field_name, field) in enumerate(fields.items(), start=1):
            proto = message.field.add(name=field_name, number=number)
            proto.label = (
                _FieldProto.LABEL_REPEATED if field.is_repeated else _FieldProto.LABEL_OPTIONAL
            )
            if field.is_message:
                proto.type, proto.type_name = _FieldProto.TYPE_MESSAGE, f".{_PACKAGE}.{field.type}"
            else:
                proto.type = _TYPES[field.type]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _fill_bare(text: str, placeholders: Mapping[str, str], source: str) -> str:
    """The text with placeholders outside of strings replaced."""

    def fill(found: "re.Match[str]") -> str:
        name = found[1]
        if name is None:  # A string or a comment.
            return found[0]
        if name not in placeholders:
            before = text[: found.start()]
            line, column = before.count("\n") + 1, found.start() - before.rfind("\n")
            raise TextProtoError(source, line, column, f"{found[0]} must be given a value")
        value = placeholders[name]
        return value if _SCALAR.fullmatch(value) else json.dumps(value)

    return _BARE_PLACEHOLDER.sub(fill, text)


def _to_json(message: Any, placeholders: Mapping[str, str]) -> Dict[str, Any]:
    def convert(value: Any) -> Any:
        if isinstance(value, str):
            return _PLACEHOLDER.sub(lambda found: placeholders.get(found[1], found[0]), value)
        return value if isinstance(value, (bool, int, float)) else _to_json(value, placeholders)

    return {
        field.name: (
            [convert(item) for item in value]
            if MESSAGES[message.DESCRIPTOR.name][field.name].is_repeated
            else convert(value)
        )
        for field, value in message.ListFields()
    }
