"""
How every program of this project ends: with one line where it cannot go on.

What users can mend (a config, weights, a dataset, a device, a folder) ends a program with a last
line of the program's name and the error's message, without a traceback. ``DEEPLAB2_D2_TRACEBACK=1``
in the environment shows the traceback as well. An error that nobody has raised on purpose is a
fault of the code and always shows it.

This module imports nothing of ours, so that every program may use it.
"""

import builtins
import dis
import errno
import functools
import io
import json
import logging
import os
import re
import sys
import threading
import traceback
from types import TracebackType
from typing import Any, Callable, Optional, Tuple

TRACEBACK_VARIABLE = "DEEPLAB2_D2_TRACEBACK"
# Whose words are meant for users. Others' errors are met where they can be explained.
_SPEAKERS = ("deeplab2_d2", "detectron2", "fvcore", "iopath", "yacs", "panopticapi", "__main__")
# What PyTorch makes of an error in a process that loads data.
_OF_WORKER = re.compile(r"Caught (\w+) in DataLoader worker process \d+\.")
# What readers of JSON raise, which know text and not the file that it comes from.
_BAD_TEXT = (json.JSONDecodeError, UnicodeDecodeError)
# Exit status of a program that Ctrl-C ends, as shells have it, and of one whose reader has gone.
_INTERRUPTED, _NO_READER = 130, 141


def run_command(name: str, main: Callable[..., Any], *arguments: Any, status: int = 1) -> int:
    """
    Run a program to its exit status.

    Args:
        name: of the program, at the head of the line that tells of an error.
        main: the program.
        arguments: of ``main``.
        status: of an error.

    Returns:
        What ``main`` returns if that is an int, else 0; ``status`` where it cannot go on.
    """
    wants_traceback = shows_tracebacks()
    # A full disk would otherwise show a traceback for every line of the log.
    logging.raiseExceptions = wants_traceback
    threading.excepthook = functools.partial(_tell_of_thread, name)
    try:
        result = main(*arguments)
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        # One with a status is a training's, which knows how to go on, or leaves it to another.
        own_status = getattr(error, "status", None)
        if own_status is None or str(error):
            _write(str(error) or f"{name}: interrupted")
        return own_status or _INTERRUPTED
    except BrokenPipeError:
        # `... | head`: what Python would still write at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NO_READER
    except Exception as error:
        if wants_traceback or not is_expected(error):
            _write(traceback.format_exc().rstrip())
        _write(describe(name, error))
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            # Whatever files are still open cannot be written to their ends, which has been said.
            sys.unraisablehook = lambda _: None
        return status
    return result if type(result) is int else 0


def _tell_of_thread(name: str, ended: Any) -> None:
    """What Python calls for a thread that an error has ended (a writer's, on a full disk)."""
    if shows_tracebacks() or ended.exc_value is None or not is_expected(ended.exc_value):
        threading.__excepthook__(ended)
    else:
        _write(describe(name, ended.exc_value))


def shows_tracebacks() -> bool:
    """Whether the user asks for tracebacks of expected errors."""
    return os.environ.get(TRACEBACK_VARIABLE, "") not in ("", "0")


def describe(name: str, error: BaseException) -> str:
    """
    An error as text that ends with one line: the program's name and what is wrong.

    Args:
        name: of the program.
        error: whose first line says it; further lines (a table) come before.
    """
    first, *rest = _message(error).strip().splitlines() or [type(error).__name__]
    return "\n".join([*rest, f"{name}: {_printable(first)}"])


def is_expected(error: BaseException) -> bool:
    """
    Whether an error's message is for users.

    It is if the system has refused something (a file, memory), or if this project or Detectron2 has
    raised it on purpose; not if an operation of Python's has failed.
    """
    if isinstance(error, (OSError, MemoryError)) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, _BAD_TEXT):
        return _file_being_read(error) is not None
    if isinstance(error, ImportError):
        return not (error.name or "").startswith("deeplab2_d2")
    if _OF_WORKER.match(str(error)):
        return _worker_frame(str(error)) is not None
    speaker, is_raised = _raised_by(error.__traceback__)
    # Detectron2 asserts what a config must have; ours are raised where the code is wrong.
    is_fault = isinstance(error, AssertionError) and speaker in ("deeplab2_d2", "__main__")
    is_fault = is_fault or isinstance(error, AttributeError)
    return is_raised and speaker in _SPEAKERS and bool(str(error)) and not is_fault


def _raised_by(place: Optional[TracebackType]) -> Tuple[str, bool]:
    """Package of the innermost frame, and whether a ``raise`` stands there."""
    if place is None:
        return "", False
    while place.tb_next is not None:
        place = place.tb_next
    frame = place.tb_frame
    operation = dis.opname[frame.f_code.co_code[place.tb_lasti]]
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return package, operation == "RAISE_VARARGS"


def _file_being_read(error: BaseException) -> Optional[str]:
    """The name of the file whose text could not be decoded, from the frames that were reading."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        for value in frame.f_locals.values():
            if isinstance(value, io.IOBase) and isinstance(getattr(value, "name", None), str):
                return value.name  # type: ignore[attr-defined]
    return None


def _worker_frame(text: str) -> Optional[str]:
    """The line of the innermost frame in a worker's traceback, if it raises on purpose."""
    frames = re.findall(r'  File "(.*)", line \d+, in .*\n    (.*)', text)
    if not frames:
        return None
    file, line = frames[-1]
    kind = getattr(builtins, _OF_WORKER.match(text)[1], None)  # type: ignore[index]
    is_system = isinstance(kind, type) and issubclass(kind, OSError)
    is_ours = any(speaker in file.split(os.sep) for speaker in _SPEAKERS)
    return line if is_system or (is_ours and line.startswith("raise ")) else None


def _message(error: BaseException) -> str:
    text = str(error)
    worker = _OF_WORKER.match(text)
    if worker is not None:
        *_, text = re.split(rf"^(?:[\w.]+\.)?{worker[1]}: ", text, flags=re.MULTILINE)
        return text
    if isinstance(error, _BAD_TEXT):
        kind = "no UTF-8 text" if isinstance(error, UnicodeDecodeError) else "no JSON"
        return f"{_file_being_read(error)}: {kind}: {text}"
    if isinstance(error, KeyError) and error.args:
        # Python shows the argument as it would be written in code.
        return str(error.args[0])
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if type(error).__name__ == "OutOfMemoryError":
        advice = "lower SOLVER.IMS_PER_BATCH or INPUT.CROP.SIZE; docs/memory.md tells what helps"
        return f"{text.splitlines()[0]} ({advice})"
    return text or type(error).__name__


def _printable(text: str) -> str:
    """Without what would move a terminal's cursor: names of files come from anywhere."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _write(text: str) -> None:
    try:
        sys.stdout.flush()
    except OSError:
        pass  # The disk that it goes to may be full.
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
