"""
The compiled extension: found, checked and loaded once, or absent and said so.

It is a plain shared library with ``TORCH_LIBRARY`` registrations, no Python module. It carries the
version of the PyTorch it was built for as a string, which is read before the library is loaded: a
library for another PyTorch would fail with missing symbols, or worse.
"""

import functools
import logging
import os
import re
from pathlib import Path
from typing import Optional

import torch

logger = logging.getLogger(__name__)

BUILD_COMMAND = "python setup.py build_ext --inplace"
REQUIRE_VARIABLE = "DEEPLAB2_D2_REQUIRE_OPS"

_VERSION_PATTERN = re.compile(rb"deeplab2_d2 built for torch ([0-9][0-9A-Za-z.]*)")


def _find_library(folder: Path) -> Optional[Path]:
    libraries = sorted(folder.glob("_kernels*.so"))
    return libraries[0] if libraries else None


def _why_unusable(library: Optional[Path]) -> Optional[str]:
    """One sentence that says why the extension cannot be used; None if it can."""
    if library is None:
        return "The compiled operators of deeplab2_d2 are not built."
    match = _VERSION_PATTERN.search(library.read_bytes())
    built_for = match.group(1).decode() if match else "an unknown version"
    running = torch.__version__.split("+")[0]
    if built_for != running:
        return (
            f"The compiled operators of deeplab2_d2 ({library}) were built for torch {built_for}, "
            f"but torch {running} is running."
        )
    return None


@functools.lru_cache(maxsize=None)
def has_extension() -> bool:
    """
    Whether the compiled operators are loaded. Decided at the first call of any operator.

    Raises:
        RuntimeError: if they cannot be used and ``DEEPLAB2_D2_REQUIRE_OPS=1`` is set.
    """
    library = _find_library(Path(__file__).parent)
    reason = _why_unusable(library)
    if reason is None:
        torch.ops.load_library(str(library))
        return True
    message = f"{reason} Build them with `{BUILD_COMMAND}`."
    if os.environ.get(REQUIRE_VARIABLE, "") == "1":
        raise RuntimeError(f"{message} {REQUIRE_VARIABLE}=1 forbids the plain PyTorch reference.")
    logger.warning("%s The slower plain PyTorch reference runs instead.", message)
    return False
