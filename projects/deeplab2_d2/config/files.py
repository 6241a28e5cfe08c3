"""Config files, read as data: nothing in them runs, and nothing in them unfolds without end."""

import os
from typing import Any, Dict, List, Tuple

from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from fvcore.common.config import BASE_KEY

from ..structures import load_plain_yaml

# Of a file; the largest config has 3 kB, a dump of every key 20 kB.
_MAX_BYTES = 1 << 20
# Files that a config is based on, each counted as often as it is named.
_MAX_BASES = 32


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
    _check_with_bases(path, (), [])
    cfg.merge_from_file(path, allow_unsafe=False)


def merge_config_text(cfg: CfgNode, text: str, source: str) -> None:
    """
    Merge a whole config, as ``CfgNode.dump`` writes it, into a config, in place.

    Args:
        cfg: Detectron2's config.
        text: YAML; it is data, as of :func:`merge_config_file`.
        source: where it comes from, for errors.

    Raises:
        ValueError, KeyError, AssertionError: see :func:`merge_config_file`.
    """
    cfg.merge_from_other_cfg(CfgNode(_parse(text.encode(), source)))


def _check_with_bases(path: str, based: Tuple[str, ...], seen: List[str]) -> None:
    """Read a file and its bases; ``based`` are those that led to it, ``seen`` all before it."""
    if len(seen) > _MAX_BASES:
        raise ValueError(f"{seen[0]} must be based on at most {_MAX_BASES} files")
    seen.append(path)
    if path in based:
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
        _check_with_bases(
            os.path.normpath(base) if "://" not in base else base, (*based, path), seen
        )


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
    return _parse(content, path)


def _parse(content: bytes, path: str) -> Dict[str, Any]:
    if len(content) > _MAX_BYTES:
        raise ValueError(f"{path} must have at most {_MAX_BYTES} bytes to be a config")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: byte {error.start} ({content[error.start]:#x}) is not UTF-8; save the file "
            "as UTF-8"
        ) from error
    loaded = load_plain_yaml(content, path, needs_words=True)
    if not isinstance(loaded, dict):
        got = "nothing" if loaded is None else f"a {type(loaded).__name__}"
        raise ValueError(f"{path} must have keys with values, as KEY: VALUE, got {got}")
    return loaded
