"""
Protocol buffers' text format, as far as DeepLab2's configs go: text to JSON.

Reference: protobuf.dev/reference/protobuf/textformat-spec. Read are comments, nested messages (in
braces or angle brackets, with or without a colon, on one line or several), repeated fields (one by
one or as a list), separators, all scalars, adjacent strings, and ``${NAME}`` placeholders. Not read
are extensions, ``Any`` and groups, which DeepLab2 has none of.
"""

import ast
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

from .deeplab2_schema import MESSAGES, Field

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n\f\v]+|\#[^\n]*)
    | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    | (?P<placeholder>\$\{[A-Za-z_][A-Za-z0-9_]*\})
    | (?P<number>-?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?|inf\b|nan\b))
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign>[{}<>\[\]:,;])
    """,
    re.VERBOSE,
)
_PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_CLOSING = {"{": "}", "<": ">"}
_TRUE, _FALSE = ("true", "True", "t", "1"), ("false", "False", "f", "0")


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


@dataclass(frozen=True)
class _Token:
    kind: str  # a group of _TOKEN, or "end"
    text: str
    line: int
    column: int


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
    return _Parser(text, source, placeholders or {}).parse(message)


class _Parser:
    def __init__(self, text: str, source: str, placeholders: Mapping[str, str]) -> None:
        self._source = source
        self._placeholders = placeholders
        self._tokens = self._tokenize(text)
        self._position = 0

    def parse(self, message: str) -> Dict[str, Any]:
        return self._fields(message, closing=None)

    def _tokenize(self, text: str) -> List[_Token]:
        tokens, position, line, start = [], 0, 1, 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            column = position - start + 1
            if match is None:
                raise TextProtoError(
                    self._source, line, column, f"unexpected {text[position : position + 1]!r}"
                )
            if match.lastgroup != "space":
                tokens.append(_Token(str(match.lastgroup), match.group(), line, column))
            if "\n" in match.group():
                line += match.group().count("\n")
                start = position + match.group().rindex("\n") + 1
            position = match.end()
        tokens.append(_Token("end", "the end of the text", line, position - start + 1))
        return tokens

    @property
    def _token(self) -> _Token:
        return self._tokens[self._position]

    def _next(self) -> _Token:
        token = self._token
        if token.kind != "end":
            self._position += 1
        return token

    def _skip(self, *signs: str) -> bool:
        if self._token.kind == "sign" and self._token.text in signs:
            self._position += 1
            return True
        return False

    def _error(self, token: _Token, message: str) -> TextProtoError:
        return TextProtoError(self._source, token.line, token.column, message)

    def _fields(self, message: str, closing: Optional[_Token]) -> Dict[str, Any]:
        values: Dict[str, Any] = {}
        while True:
            token = self._next()
            if closing is None and token.kind == "end":
                return values
            if closing is not None and token.text == _CLOSING[closing.text]:
                return values
            if closing is not None and token.kind == "end":
                raise self._error(closing, f"this {closing.text!r} of {message} is never closed")
            if token.kind != "name":
                raise self._error(token, f"a field of {message} expected, got {token.text!r}")
            self._field(message, token, values)
            self._skip(",", ";")

    def _field(self, message: str, name: _Token, values: Dict[str, Any]) -> None:
        if name.text not in MESSAGES[message]:
            raise self._error(
                name,
                f"{message} has no field {name.text!r} (it has {', '.join(MESSAGES[message])})",
            )
        field = MESSAGES[message][name.text]
        has_colon = self._skip(":")
        if not has_colon and not field.is_message:
            raise self._error(self._token, f"':' expected after {name.text!r}")
        if self._token.text == "[":
            opening = self._next()
            if not field.is_repeated:
                raise self._error(opening, f"{name.text!r} is one value, not a list")
            items = self._list(field)
        else:
            items = [self._value(field)]
        if field.is_repeated:
            values.setdefault(name.text, []).extend(items)
        elif name.text in values:
            raise self._error(name, f"{name.text!r} is set twice")
        else:
            values[name.text] = items[0]

    def _list(self, field: Field) -> List[Any]:
        items: List[Any] = []
        while not self._skip("]"):
            items.append(self._value(field))
            if not self._skip(",") and self._token.text != "]":
                raise self._error(self._token, f"',' or ']' expected, got {self._token.text!r}")
        return items

    def _value(self, field: Field) -> Any:
        token = self._next()
        if field.is_message:
            if token.kind != "sign" or token.text not in _CLOSING:
                raise self._error(token, f"'{{' of a {field.type} expected, got {token.text!r}")
            return self._fields(field.type, token)
        text = self._fill(token)
        if field.type == "string" and token.kind in ("string", "placeholder"):
            while self._token.kind == "string":
                text += self._fill(self._next())
            return text
        if field.type == "bool" and text in _TRUE + _FALSE:
            return text in _TRUE
        number = _number(text, field.type) if token.kind in ("number", "placeholder") else None
        if number is None:
            raise self._error(token, f"a value of type {field.type} expected, got {token.text!r}")
        return number

    def _fill(self, token: _Token) -> str:
        """The token's text with strings unquoted and known placeholders replaced."""
        text = token.text
        if token.kind == "string":
            try:
                text = ast.literal_eval(text)
            except (SyntaxError, ValueError) as error:
                raise self._error(token, f"a string with a wrong escape: {token.text}") from error
        return _PLACEHOLDER.sub(lambda found: self._placeholders.get(found[1], found[0]), text)


def _number(text: str, kind: str) -> Any:
    """An int or float of text-format syntax; None if it is not one."""
    if kind not in ("int", "float"):
        return None
    try:
        if kind == "float":
            if "0x" in text.lower():
                return float(int(text, 16))
            has_suffix = text.endswith(("f", "F")) and not text.endswith("nf")
            return float(text[:-1] if has_suffix else text)
        is_octal = len(text.lstrip("-")) > 1 and text.lstrip("-").startswith("0") and text.isdigit()
        return int(text, 8) if is_octal else int(text, 0)
    except (ValueError, OverflowError):
        return None
