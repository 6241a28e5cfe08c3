"""
The compiled extension: found, checked and loaded once, or absent and said so.

It is a plain shared library with ``TORCH_LIBRARY`` registrations, no Python module. It carries the
version of the PyTorch it was built for as a string, which is read before the library is loaded: a
library for another PyTorch would fail with missing symbols, or worse.
"""

import contextlib
import contextvars
import functools
import logging
import os
import re
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Optional, TypeVar

import torch

logger = logging.getLogger(__name__)

BUILD_COMMAND = "python setup.py build_ext --inplace"
REQUIRE_VARIABLE = "DEEPLAB2_D2_REQUIRE_OPS"

Function = TypeVar("Function", bound=Callable[..., Any])

# How many `use_reference` are open where the caller is.
_NUM_OPEN: contextvars.ContextVar[int] = contextvars.ContextVar(
    "deeplab2_d2_use_reference", default=0
)
_LOADING = threading.Lock()


def _start_anew() -> None:
    """A forked process starts as a spawned one does, which is the only kind on Windows."""
    global _LOADING
    _NUM_OPEN.set(0)
    _LOADING = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)

_FAKES: Dict[str, Callable[..., Any]] = {}
_SET_UPS: Dict[str, Callable[[], None]] = {}

_VERSION_PATTERN = re.compile(
    rb"deeplab2_d2 built for torch ([0-9][0-9A-Za-z.]*)( with CUDA ([0-9.]+))?"
)


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
    if match and match.group(2):
        # CUDA kernels need the libraries of their CUDA; others run beside any.
        built_for += match.group(2).decode()
        running += f" with CUDA {torch.version.cuda}" if torch.version.cuda else " without CUDA"
    if built_for != running:
        return (
            f"The compiled operators of deeplab2_d2 ({library}) were built for torch {built_for}, "
            f"but torch {running} is running."
        )
    return None


def _is_loaded() -> bool:
    # Registering twice is an error, and the first calls may come from several threads.
    with _LOADING:
        return _load()


@functools.lru_cache(maxsize=None)
def _load() -> bool:
    library = _find_library(Path(__file__).parent)
    reason = _why_unusable(library)
    if reason is not None:
        _report_absence(reason)
        return False
    torch.ops.load_library(str(library))
    for name, function in _FAKES.items():
        if _is_in_library(name):
            torch.library.register_fake(f"deeplab2_d2::{name}", function)
    for name, set_up in _SET_UPS.items():
        if _is_in_library(name):
            set_up()
    return True


def _is_in_library(operator: str) -> bool:
    return hasattr(torch.ops.deeplab2_d2, operator)


@functools.lru_cache(maxsize=None)
def _has_kernels_for(operator: str, device_type: str) -> bool:
    if not _is_loaded():
        return False
    if not _is_in_library(operator):
        _report_absence(
            f"The compiled operators of deeplab2_d2 are older than its code: they lack {operator}."
        )
        return False
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    if device_type in ("cpu", "meta"):
        return True
    if device_type == "cuda" and has_kernel(f"deeplab2_d2::{operator}", "CUDA"):
        return True
    _report_absence(f"The operator deeplab2_d2::{operator} has no kernel for {device_type}.")
    return False


def _report_absence(reason: str) -> None:
    message = f"{reason} Build them with `{BUILD_COMMAND}`."
    if os.environ.get(REQUIRE_VARIABLE, "") == "1":
        raise RuntimeError(f"{message} {REQUIRE_VARIABLE}=1 forbids the plain PyTorch reference.")
    logger.warning("%s The slower plain PyTorch reference runs instead.", message)


class _UseReference(contextlib.ContextDecorator):
    """Without state of its own, so that one object can be entered again and from any thread."""

    def __enter__(self) -> None:
        if torch.compiler.is_compiling():
            raise RuntimeError(
                "use_reference must be entered outside of what torch.compile or torch.export traces"
            )
        _NUM_OPEN.set(_NUM_OPEN.get() + 1)

    def __exit__(self, *exception: object) -> None:
        # In a process that was forked within, none is open.
        _NUM_OPEN.set(max(_NUM_OPEN.get() - 1, 0))


def use_reference() -> _UseReference:
    """
    A context in which every operator runs its plain PyTorch reference, for comparing and debugging.

    ``with ops.use_reference(): ...``, or ``@ops.use_reference()`` above a function. It may be
    nested, and holds for the thread (or asynchronous task) that entered it alone: other threads,
    and worker processes whether forked or spawned (as of a data loader), know nothing of it.
    ``DEEPLAB2_D2_REQUIRE_OPS=1`` does not forbid it.

    What torch.compile and torch.export trace has the choice of the moment of tracing, for good: a
    graph that was traced within runs the reference outside too, and one that was traced before runs
    the kernels within (`torch.compiler.reset` forgets them). To enter it inside of what is traced
    is an error.
    """
    return _UseReference()


@torch.compiler.assume_constant_result
def has_kernels(operator: str, device_type: str) -> bool:
    """
    Whether the caller's operators are the compiled ones, else the reference.

    Raises:
        RuntimeError: see `has_extension`.
    """
    return _NUM_OPEN.get() == 0 and _has_kernels_for(operator, device_type)


@torch.compiler.assume_constant_result
def has_extension(operator: str = "find_centers", device_type: str = "cpu") -> bool:
    """
    Whether a compiled operator is there for a kind of device. Decided once, at the first call.

    Raises:
        RuntimeError: if they cannot be used and ``DEEPLAB2_D2_REQUIRE_OPS=1`` is set.
    """
    return _has_kernels_for(operator, device_type)


def register_fake(name: str) -> Callable[[Function], Function]:
    """Decorator: the shapes of an operator's outputs, for tracing, once the library is loaded."""

    def remember(function: Function) -> Function:
        _FAKES[name] = function
        return function

    return remember


def register_gradient(name: str) -> Callable[[Function], Function]:
    """Decorator: a function that registers an operator's gradient, once the library is loaded."""

    def remember(function: Function) -> Function:
        _SET_UPS[name] = function
        return function

    return remember
