"""Unpacking archives that come from elsewhere."""

import gzip
import os
import tarfile
import zlib
from pathlib import PurePosixPath
from typing import Any

from .sorted_table import CheckpointFormatError

ARCHIVE_ENDINGS = (".tar.gz", ".tgz", ".tar")

# The largest checkpoint of DeepLab2 takes about 7 GB with its optimizer's slots.
MAX_BYTES = 32 << 30
_MAX_MEMBERS = 10_000
_CHUNK = 1 << 20
# At once: of a member, or of what stands before it, its name and whatever else is kept of it.
_MAX_READ = 1 << 16


def unpack(path: str, folder: str, max_bytes: int = MAX_BYTES) -> None:
    """
    Unpack a tar archive. Nothing is written outside the folder.

    Args:
        path: .tar, .tar.gz or .tgz.
        folder: an empty folder.
        max_bytes: size of all files together that is accepted.

    Raises:
        CheckpointFormatError: if the archive is cut short or damaged.
        ValueError: if a member is not a plain file or folder, or would stand outside the folder, or
            the sizes exceed the limit.
    """
    with open(path, "rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    try:
        with (gzip.open if is_compressed else open)(path, "rb") as stream:
            reader: Any = _ShortReads(stream)
            with tarfile.open(fileobj=reader, mode="r:") as archive:
                _extract_all(archive, path, folder, max_bytes)
            # tarfile stops at the end of the archive; gzip's checksum comes after it.
            while stream.read(_CHUNK):
                pass
    except _DAMAGE as error:
        size = os.path.getsize(path)
        raise CheckpointFormatError(path, size, f"a damaged archive ({error})") from error


# What tarfile raises for headers that are wrong; theirs may follow each other without end.
_DAMAGE = (
    *(tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile),
    *(RecursionError, LookupError, OverflowError, UnicodeError),
)


class _ShortReads:
    """A stream of which no header is read that takes more memory than any has."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise tarfile.ReadError(f"a header must have at most {_MAX_READ} bytes, got {size}")
        return self._stream.read(size)


def _extract_all(archive: tarfile.TarFile, path: str, folder: str, max_bytes: int) -> None:
    num_bytes = number = 0
    for member in iter(archive.next, None):
        archive.members.clear()  # type: ignore[attr-defined]  # It keeps what it knows of all.
        _check_member(path, member)
        num_bytes += member.size
        if num_bytes > max_bytes or number >= _MAX_MEMBERS:
            raise ValueError(
                f"{path} must unpack to at most {max_bytes} bytes in {_MAX_MEMBERS} files; "
                f"{member.name!r} exceeds that"
            )
        number += 1
        _extract(archive, member, folder)


def _check_member(path: str, member: tarfile.TarInfo) -> None:
    if member.issparse() or not (member.isreg() or member.isdir()):
        raise ValueError(
            f"{path}: {member.name!r} is a link, device or sparse; only files are unpacked"
        )
    if member.size < 0:
        raise tarfile.ReadError(f"{member.name!r} has {member.size} bytes")
    parts = PurePosixPath(member.name.replace("\\", "/"))
    has_drive = ":" in (parts.parts[0] if parts.parts else "")
    if parts.is_absolute() or ".." in parts.parts or has_drive or "\0" in member.name:
        raise ValueError(f"{path}: {member.name!r} would stand outside the folder")


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: str) -> None:
    target = os.path.join(folder, member.name)
    if member.isdir():
        os.makedirs(target, exist_ok=True)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    source = archive.extractfile(member)
    assert source is not None  # It is a plain file.
    # "x": a name that comes twice is refused, so that nothing is written through an earlier member.
    with source, open(target, "xb") as file:
        for chunk in iter(lambda: source.read(_MAX_READ), b""):
            file.write(chunk)
    if os.path.getsize(target) != member.size:
        raise tarfile.ReadError(f"{member.name!r} ends early")
