"""Files that are whole or not there."""

import contextlib
import json
import os
import tempfile
from typing import Any, Iterator, Optional


@contextlib.contextmanager
def atomic_path(path: str) -> Iterator[str]:
    """
    A temporary name beside ``path`` to write to; it becomes ``path`` when the block succeeds.

    What stood at ``path`` before stays until then, and stays for good if the block fails (a full
    disk, an interrupt): the temporary file is then removed.

    Args:
        path: the file to write. Its folder is made.
    """
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    # The same ending, because writers choose the format by it.
    root, ending = os.path.splitext(os.path.basename(path))
    handle, temporary = tempfile.mkstemp(prefix=f".{root}.", suffix=f".part{ending}", dir=folder)
    os.close(handle)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes it private.
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise


def write_json(path: str, content: Any, *, indent: Optional[int] = None) -> None:
    """
    Write a JSON file, whole or not at all.

    Args:
        path: the file. Its folder is made.
        content: what it holds.
        indent: spaces of a level; None for one line.
    """
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=indent)
