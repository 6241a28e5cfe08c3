"""Files that are whole or not there."""

import contextlib
import fcntl
import json
import os
import re
import tempfile
from typing import Any, Iterator, List, Optional

# As `atomic_path` names them: .model_0000001.x3jf8a_2.part.pth
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.part(\.\w+)?")


@contextlib.contextmanager
def atomic_path(path: str) -> Iterator[str]:
    """
    A temporary name beside ``path`` to write to; it becomes ``path`` when the block succeeds.

    What stood at ``path`` before stays until then, and stays for good if the block fails (a full
    disk, an interrupt): the temporary file is then removed.

    Args:
        path: the file to write. Its folder is made.

    Raises:
        OSError: naming ``path`` and the reason, where the system refuses to write.
    """
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    # The same ending, because writers choose the format by it.
    root, ending = os.path.splitext(os.path.basename(path))
    handle, temporary = tempfile.mkstemp(prefix=f".{root}.", suffix=f".part{ending}", dir=folder)
    # It tells others that the file is being written, and ends with this process.
    _lock(handle)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes it private.
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        if isinstance(error, OSError) and error.filename in (None, temporary) and error.strerror:
            # As of a full disk: writers know a handle, or a name that is gone.
            raise OSError(error.errno, error.strerror, path) from error
        raise
    finally:
        os.close(handle)


def remove_leftovers(folder: str) -> List[str]:
    """
    Remove the temporary files of :func:`atomic_path` that a killed process has left in a folder.

    Args:
        folder: of which nothing below is looked at.

    Returns:
        Paths of what was removed; files that a process is still writing stay.
    """
    removed = []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        path = os.path.join(folder, name)
        if not _TEMPORARY.fullmatch(name) or not os.path.isfile(path):
            continue
        with open(path, "rb") as file:
            if _lock(file.fileno()):
                os.remove(path)
                removed.append(path)
    return removed


def _lock(handle: int) -> bool:
    """Whether a file is this process's from now on; not where file systems have no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


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
