"""One run at a time in an output folder: a lock that ends with its process, however that ends."""

import contextlib
import errno
import fcntl
import logging
import os
import socket
import time
from typing import Dict, Iterator, List, Optional

from detectron2.utils import comm

from .config_error import ConfigError

logger = logging.getLogger(__name__)

_NAME = "run.lock"
# What file systems say that have no locks; others say that somebody has it.
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
# File descriptors of the locks that this process has, by their files.
_HELD: Dict[str, int] = {}


def lock_output_dir(folder: str) -> None:
    """
    Keep other runs out of a folder until this process ends.

    The first process of a job takes the lock for all of its processes; one that a process has
    already is fine. Where the file system has no locks there is a warning. A process that is killed
    leaves the file, but no lock.

    Args:
        folder: OUTPUT_DIR; made if it is not there. "" and addresses are not locked.

    Raises:
        ConfigError: in all processes of the job, if another run has the lock.
    """
    if not folder or "://" in folder:
        return
    refusal = _take(folder) if comm.is_main_process() else None
    refusals: List[Optional[str]] = comm.all_gather(refusal)
    if refusals[0] is not None:
        raise ConfigError(refusals[0])


@contextlib.contextmanager
def locked_output_dir(folder: str) -> Iterator[None]:
    """As :func:`lock_output_dir` within the block, unless this process has the lock already."""
    path = os.path.realpath(os.path.join(folder, _NAME))
    had = path in _HELD
    lock_output_dir(folder)
    try:
        yield
    finally:
        if not had and path in _HELD:
            os.close(_HELD.pop(path))


def _take(folder: str) -> Optional[str]:
    """Take the lock; why not, where another run has it."""
    path = os.path.realpath(os.path.join(folder, _NAME))
    if path in _HELD:
        return None
    os.makedirs(folder, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(handle, 200).decode(errors="replace").strip()
        os.close(handle)
        if error.errno in _WITHOUT_LOCKS:
            logger.warning("%s cannot be locked (%s): start no second run in it", folder, error)
            return None
        return (
            f"config key OUTPUT_DIR must be a folder that no other run is using, got {folder}, in "
            f"use by {owner or 'another run'}: wait for its end, or give another folder"
        )
    os.ftruncate(handle, 0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}, since {since}\n".encode())
    _HELD[path] = handle
    return None


def _forget() -> None:
    """In a forked process, such as a worker of a data loader, which must not keep the lock."""
    for handle in _HELD.values():
        os.close(handle)
    _HELD.clear()


os.register_at_fork(after_in_child=_forget)
