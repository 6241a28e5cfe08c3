"""
DeepLab2's experiment options, as text format or JSON, to a YAML config of ours.

``python -m deeplab2_d2.checkpoint.import_config FILE`` prints the YAML, and on stderr which options
have no equivalent.
"""

import argparse
import json
import os
import sys
from typing import Any, Dict, List, Mapping, Optional

import yaml
from detectron2.config import get_cfg

from ..command import run_command
from ..config import add_deeplab2_config
from ..structures import atomic_path
from .deeplab2_options import ImportedOptions, import_options
from .textproto import TextProtoError, parse_textproto


def read_options(path: str, placeholders: Optional[Mapping[str, str]] = None) -> Dict[str, Any]:
    """
    Read DeepLab2's ``ExperimentOptions`` from a file.

    Args:
        path: JSON if the text starts with a brace, else protocol buffer text format.
        placeholders: values for ``${NAME}`` in text format.

    Raises:
        TextProtoError: if the file is malformed, with line and column.
    """
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if not text.lstrip().startswith("{"):
        return parse_textproto(text, source=path, placeholders=placeholders)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise TextProtoError(path, error.lineno, error.colno, error.msg) from error
    except RecursionError as error:
        raise TextProtoError(path, 1, 1, "messages are nested too deeply to be read") from error


def to_yaml(imported: ImportedOptions, source: str) -> str:
    """
    The config as YAML: the keys that differ from the defaults.

    Args:
        imported: the options.
        source: where they come from, for the comment at the top.
    """
    defaults = get_cfg()
    add_deeplab2_config(defaults)
    tree: Dict[str, Any] = {"VERSION": 2}
    for key, value in sorted(imported.values.items()):
        default: Any = defaults
        for part in key.split("."):
            default = default[part]
        if value == default or (isinstance(default, tuple) and tuple(value) == default):
            continue
        *nodes, name = key.split(".")
        branch = tree
        for node in nodes:
            branch = branch.setdefault(node, {})
        branch[name] = list(value) if isinstance(value, tuple) else value
    lines = [f"# From DeepLab2's {source}."]
    if imported.unsupported:
        lines.append("# Without an equivalent here:")
        lines += [f"#   {name}: {reason}" for name, reason in sorted(imported.unsupported.items())]
    return "\n".join(lines) + "\n" + yaml.safe_dump(tree, default_flow_style=None)


def main(arguments: Optional[List[str]] = None) -> int:
    """The command. Returns the exit status: 2 for a file that cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m deeplab2_d2.checkpoint.import_config",
        description="Turn a config of DeepLab2 (textproto or JSON) into a YAML config.",
    )
    parser.add_argument("file", help="DeepLab2's config")
    parser.add_argument("--output", metavar="YAML", help="file to write instead of stdout")
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="value for the placeholder ${NAME}; may be repeated",
    )
    options = parser.parse_args(arguments)
    if not all("=" in item for item in options.set):
        parser.error(f"--set takes NAME=VALUE, got {options.set}")
    return run_command("import_config", _import, options, status=2)


def _import(options: argparse.Namespace) -> None:
    placeholders = dict(item.split("=", 1) for item in options.set)
    imported = import_options(read_options(options.file, placeholders))
    text = to_yaml(imported, os.path.basename(options.file))
    if options.output:
        with atomic_path(options.output) as temporary:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(text)
    else:
        print(text, end="")
    num_unsupported = len(imported.unsupported)
    print(
        f"{len(imported.mapped)} options mapped, {num_unsupported} without an equivalent",
        file=sys.stderr,
    )
    for name, reason in sorted(imported.unsupported.items()):
        print(f"  {name}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
