"""Code of the user's that registers datasets, imported before a command looks for them."""

import argparse
import importlib
import importlib.util
import os
import sys
from typing import Sequence


def add_register_argument(parser: argparse.ArgumentParser) -> None:
    """Give a command ``--register MODULE``."""
    parser.add_argument(
        "--register",
        action="append",
        default=[],
        metavar="module",
        help="Python module, or file ending in .py, that registers datasets; may be repeated",
    )


def register_user_modules(modules: Sequence[str]) -> None:
    """
    Import modules, each once in a process.

    Args:
        modules: names as of an import, also of modules in the working directory, or paths of files
            that end in ``.py``.

    Raises:
        ValueError: naming the module and what it fails at.
    """
    for module in modules:
        try:
            if module.endswith(".py"):
                _import_file(module)
            else:
                # A command that is a script or of another package does not look here by itself.
                sys.path.append(os.getcwd())
                importlib.import_module(module)
        except (ImportError, OSError, SyntaxError, AssertionError, LookupError) as error:
            raise ValueError(
                f"--register {module} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        finally:
            if not module.endswith(".py"):
                sys.path.remove(os.getcwd())


def _import_file(path: str) -> None:
    path = os.path.abspath(path)
    name = f"deeplab2_d2_registered_{os.path.splitext(os.path.basename(path))[0]}"
    if getattr(sys.modules.get(name), "__file__", None) == path:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise FileNotFoundError(f"no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
