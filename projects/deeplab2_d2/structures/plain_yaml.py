"""YAML that is data: nothing in it runs, and nothing in it unfolds without end."""

from typing import Any, Dict, Iterator, List, Set, Tuple

import yaml

# Of a document with all aliases (*NAME) written out, and of mappings and lists in each other.
_MAX_VALUES, _MAX_DEPTH = 100_000, 32

_PYTHON_TAG = "tag:yaml.org,2002:python/"
_TEXT_TAG = "tag:yaml.org,2002:str"
# What PyYAML raises for text that is malformed, or whose values are not what their tags say.
_MALFORMED = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError)


class PlainYamlError(ValueError):
    """Text that is no YAML of plain values, or too much of it."""


def load_plain_yaml(content: bytes, path: str, *, needs_words: bool = False) -> Any:
    """
    Read a document of mappings, lists, numbers and texts.

    Args:
        content: of the file.
        path: of the file, for errors.
        needs_words: keys of mappings must be texts.

    Returns:
        the content; None of an empty document.

    Raises:
        PlainYamlError: naming the file, the line and the rule, also for a tag that would run
            Python, and for aliases that stand for more than any file of ours has.
    """
    try:
        loader = yaml.SafeLoader(content)
        root = loader.get_single_node()
        if root is None:
            return None
        _check_nodes(path, root, needs_words)
        _Size(path).measure(root)
        return loader.construct_document(root)
    except RecursionError as error:
        raise _too_deep(path) from error
    except _MALFORMED as error:
        if isinstance(error, PlainYamlError):
            raise
        # PyYAML's are of several lines.
        reason = " ".join(str(error).replace(' in "<byte string>"', "").split())
        if r"'\t'" in reason:
            reason = f"{reason}; indent with spaces, not with tabs"
        raise PlainYamlError(
            f"{path} is no YAML of plain values: {reason or type(error).__name__}"
        ) from error


def _check_nodes(path: str, root: Any, needs_words: bool) -> None:
    for node in _nodes(root):
        line = node.start_mark.line + 1
        if node.tag.startswith(_PYTHON_TAG):
            tag = "!!" + node.tag[len("tag:yaml.org,2002:") :]
            raise PlainYamlError(
                f"{path}, line {line}: {tag} would run Python, which a file must not; write the "
                "value itself, as [[32, 40, 50], [64, 80, 101]] where Detectron2's COCO configs "
                "compute sizes"
            )
        for key in _keys(node) if needs_words else ():
            if key.tag != _TEXT_TAG:
                got = getattr(key, "value", "")
                raise PlainYamlError(
                    f"{path}, line {key.start_mark.line + 1}: keys must be words, got "
                    f"{got if isinstance(got, str) else f'a {key.id}'}"
                )


def _keys(node: Any) -> List[Any]:
    # A merge (<<) is written out by the loader.
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return [key for key, _ in pairs if key.tag != "tag:yaml.org,2002:merge"]


def _parts(node: Any) -> List[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _nodes(root: Any) -> Iterator[Any]:
    """Each node once, whatever refers to it."""
    seen: Set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting.extend(_parts(node))


class _Size:
    """How large a document is with its aliases written out."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: Dict[int, Tuple[int, int]] = {}
        self._open: Set[int] = set()

    def measure(self, node: Any, depth: int = 0) -> Tuple[int, int]:
        """Values in it and how deep they are. A node within itself is deeper than any."""
        if depth > _MAX_DEPTH or id(node) in self._open:
            raise _too_deep(self._path)
        if id(node) not in self._known:
            self._open.add(id(node))
            sizes = [self.measure(part, depth + 1) for part in _parts(node)]
            values = 1 + sum(size[0] for size in sizes)
            deepest = 1 + max((size[1] for size in sizes), default=0)
            if values > _MAX_VALUES:
                raise PlainYamlError(
                    f"{self._path} must have at most {_MAX_VALUES} values with its aliases written "
                    "out"
                )
            self._known[id(node)] = (values, deepest)
            self._open.remove(id(node))
        if depth + self._known[id(node)][1] > _MAX_DEPTH + 1:
            raise _too_deep(self._path)
        return self._known[id(node)]


def _too_deep(path: str) -> ValueError:
    return PlainYamlError(f"{path} must have its values at most {_MAX_DEPTH} levels deep")
