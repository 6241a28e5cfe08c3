"""Config files, read as data: nothing in them runs, and nothing in them unfolds without end."""

import os
from typing import Any, Dict, Iterator, List, Set, Tuple

import yaml
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from fvcore.common.config import BASE_KEY

# Of a file; the largest config has 3 kB, a dump of every key 20 kB.
_MAX_BYTES = 1 << 20
# Of a file with all aliases (*NAME) written out, and of mappings and lists in each other.
_MAX_VALUES, _MAX_DEPTH = 100_000, 32
_MAX_BASES = 32

_PYTHON_TAG = "tag:yaml.org,2002:python/"
_MAPPING_TAG, _TEXT_TAG = yaml.resolver.Resolver.DEFAULT_MAPPING_TAG, "tag:yaml.org,2002:str"
# What PyYAML raises for text that is malformed, or whose values are not what their tags say.
_MALFORMED = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError)


def merge_config_file(cfg: CfgNode, path: str) -> None:
    """
    Merge a YAML file, and the files that it is based on, into a config, in place.

    Unlike ``CfgNode.merge_from_file``, which by default lets the tags ``!!python/...`` of a file
    run any code, it takes files for data.

    Args:
        cfg: Detectron2's config.
        path: by any path that Detectron2's ``PathManager`` opens, as those of its ``_BASE_``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if one is no YAML of plain values by name, or larger than any
            config, or based on itself.
        KeyError, AssertionError: of Detectron2, for keys that the config does not have.
    """
    _check_with_bases(path, ())
    cfg.merge_from_file(path, allow_unsafe=False)


def _check_with_bases(path: str, based: Tuple[str, ...]) -> None:
    if path in based or len(based) >= _MAX_BASES:
        raise ValueError(f"{path} must not be based on itself: {' -> '.join((*based, path))}")
    if based and not PathManager.isfile(path):
        raise FileNotFoundError(f"{based[-1]}: its {BASE_KEY} {path} does not exist")
    bases = read_config_file(path).get(BASE_KEY, [])
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str):
            raise ValueError(f"{path}: {BASE_KEY} must be a file or a list of files, got {base!r}")
        base = os.path.expanduser(base)
        is_whole = base.startswith(("/", "https://", "http://"))
        base = base if is_whole else os.path.join(os.path.dirname(path), base)
        _check_with_bases(os.path.normpath(base) if "://" not in base else base, (*based, path))


def read_config_file(path: str) -> Dict[str, Any]:
    """
    The content of one YAML file, without those that it is based on.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: see :func:`merge_config_file`.
    """
    if not PathManager.isfile(path):
        what = "is a folder, give a file of it" if PathManager.isdir(path) else "does not exist"
        raise FileNotFoundError(f"config file {path} {what}")
    if path.endswith(".py"):
        raise ValueError(f"{path} is Python, as LazyConfigs are; a config here is a YAML file")
    with PathManager.open(path, "rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"{path} must have at most {_MAX_BYTES} bytes to be a config")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: byte {error.start} ({content[error.start]:#x}) is not UTF-8; save the file "
            "as UTF-8"
        ) from error
    try:
        loader = yaml.SafeLoader(content)
        root = loader.get_single_node()
        _check_nodes(path, root)
        return loader.construct_document(root)
    except RecursionError as error:
        raise _too_deep(path) from error
    except _MALFORMED as error:
        if isinstance(error, _ConfigFileError):
            raise
        # PyYAML's are of several lines.
        reason = " ".join(str(error).replace(' in "<byte string>"', "").split())
        if r"'\t'" in reason:
            reason = f"{reason}; indent with spaces, not with tabs"
        raise ValueError(
            f"{path} is no YAML of plain values: {reason or type(error).__name__}"
        ) from error


class _ConfigFileError(ValueError):
    pass


def _check_nodes(path: str, root: Any) -> None:
    for node in [] if root is None else _nodes(root):
        line = node.start_mark.line + 1
        if node.tag.startswith(_PYTHON_TAG):
            tag = "!!" + node.tag[len("tag:yaml.org,2002:") :]
            raise _ConfigFileError(
                f"{path}, line {line}: {tag} would run Python, which a config file must not; write "
                "the value itself, as [[32, 40, 50], [64, 80, 101]] where Detectron2's COCO "
                "configs compute sizes"
            )
        for key in _keys(node):
            if key.tag != _TEXT_TAG:
                got = getattr(key, "value", "")
                raise _ConfigFileError(
                    f"{path}, line {key.start_mark.line + 1}: keys must be words, got "
                    f"{got if isinstance(got, str) else f'a {key.id}'}"
                )
    if not isinstance(root, yaml.MappingNode) or root.tag != _MAPPING_TAG:
        got = "nothing" if root is None else f"a {root.id}"
        raise _ConfigFileError(f"{path} must have keys with values, as KEY: VALUE, got {got}")
    _Size(path).measure(root)


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

    def measure(self, node: Any, depth: int = 0) -> Tuple[int, int]:
        """Values in it and how deep they are. A node within itself is deeper than any."""
        if depth > _MAX_DEPTH:
            raise _too_deep(self._path)
        if id(node) not in self._known:
            sizes = [self.measure(part, depth + 1) for part in _parts(node)]
            values = 1 + sum(size[0] for size in sizes)
            deepest = 1 + max((size[1] for size in sizes), default=0)
            if values > _MAX_VALUES:
                raise _ConfigFileError(
                    f"{self._path} must have at most {_MAX_VALUES} values with its aliases written "
                    "out to be a config"
                )
            self._known[id(node)] = (values, deepest)
        if depth + self._known[id(node)][1] > _MAX_DEPTH + 1:
            raise _too_deep(self._path)
        return self._known[id(node)]


def _too_deep(path: str) -> ValueError:
    return _ConfigFileError(f"{path} must have its values at most {_MAX_DEPTH} levels deep")
