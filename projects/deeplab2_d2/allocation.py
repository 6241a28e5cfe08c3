"""
How a process on a CPU keeps the memory that its tensors have left.

glibc gives blocks of more than some MB back to the system as soon as they are freed, and the next
tensor's pages are then cleared and mapped one by one, at 4 KB each. ``make bench ARGS=forms`` shows
what that costs a network.

This module imports nothing of ours, so that every program may use it.
"""

import ctypes
import os
import sys

# Of <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Larger blocks are the system's own.
_LARGEST_KEPT = 1 << 30
# Who has chosen by one of these is left alone.
_CHOICES = ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def keep_freed_memory() -> bool:
    """
    Let this process use freed memory again instead of giving it back to the system.

    The programs of this project begin with it; another program may, before its first model. It
    holds for the whole process, which then keeps the most memory that it has needed. An allocator
    of the user's (``LD_PRELOAD`` of jemalloc or tcmalloc) does as it likes, and what the
    environment says of malloc's thresholds stands.

    Returns:
        Whether it is so: False where the C library is not glibc, or the user has chosen.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _CHOICES):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    chosen = ((_MMAP_THRESHOLD, _LARGEST_KEPT), (_TRIM_THRESHOLD, -1))
    return all(library.mallopt(*option) == 1 for option in chosen)
