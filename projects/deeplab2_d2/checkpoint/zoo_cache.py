"""The zoo's checkpoints on this machine: downloaded, unpacked, converted, once."""

import logging
import os
import shutil
import stat
import tempfile
from typing import Any, List, Optional

from iopath.common.file_io import PathHandler, get_cache_dir

from .archive import unpack
from .deeplab2_checkpoint import DeepLab2Checkpoint, find_prefix
from .download import DownloadError, download
from .weights_file import convert_checkpoint, write_weights
from .zoo_table import PREFIX, PRETRAINED, ZooRow, find_row

logger = logging.getLogger(__name__)

# Part of the file names: raised when the same variables get other names here.
_FORMAT = 1
# Where iopath puts its cache if the home folder cannot be written to.
_FALLBACK = os.path.join(tempfile.gettempdir(), "iopath_cache")


def cache_folder() -> str:
    """
    Where converted checkpoints are kept: inside Detectron2's cache ($FVCORE_CACHE).

    Raises:
        PermissionError: if others can put files there: weights that are found would be theirs.
    """
    cache = get_cache_dir()
    folder = os.path.join(cache, "deeplab2")
    for path in (cache, folder):
        _refuse_of_others(path, is_fallback=cache == _FALLBACK)
    return folder


def refuse_planted(path: str) -> None:
    """
    Refuse a file that others may have put where downloads are kept.

    Args:
        path: that Detectron2's ``PathManager`` gave for an address.

    Raises:
        PermissionError: if it is in the cache for homes that cannot be written to, and that is not
            this user's alone.
    """
    if os.path.abspath(path).startswith(_FALLBACK + os.sep):
        for folder in (_FALLBACK, os.path.dirname(path)):
            _refuse_of_others(folder, is_fallback=True)


def _refuse_of_others(path: str, *, is_fallback: bool) -> None:
    if os.name != "posix" or not os.path.exists(path):
        return
    found = os.stat(path)
    # A shared $FVCORE_CACHE may be a colleague's; the fallback's name is known to everyone.
    is_of_another = is_fallback and found.st_uid not in (os.getuid(), 0)
    if is_of_another or found.st_mode & stat.S_IWOTH:
        reason = "belongs to another user" if is_of_another else "can be written to by all users"
        raise PermissionError(
            f"{path} {reason}: weights in it could be anyone's; set FVCORE_CACHE to a folder of "
            "your own"
        )


def fetch(name: str, url: Optional[str] = None) -> str:
    """
    The local file with the weights of a row of the zoo; made at the first call.

    A process that finds another one at it waits. What stands in the cache folder as NAME.tar.gz or
    as a folder NAME is used instead of a download.

    Args:
        name: of a row.
        url: another address of the archive than the row's.

    State dicts of PyTorch repositories stay as they are. Of those that only a browser gets, the
    error says where to put them.

    Returns:
        Path of a .pth file.

    Raises:
        KeyError: if there is no such row.
        PermissionError: if others can put files into the cache.
        DownloadError: if the archive cannot be had; the message says where to put it.
        ValueError: if it is hostile or damaged, or no network here has its variables.
    """
    from filelock import FileLock

    row = find_row(name)
    # Refused before it is downloaded.
    if row.config is None and row.model != PRETRAINED:
        raise ValueError(f"{row.name} is a {row.model}, which has no configuration here")
    folder = cache_folder()
    path = os.path.join(folder, row.file or f"{row.name}.v{_FORMAT}.pth")
    if os.path.isfile(path):
        return path
    os.makedirs(folder, exist_ok=True)
    with FileLock(os.path.join(folder, f"{row.name}.lock")):
        if os.path.isfile(path):
            return path
        if row.file is None:
            _make(row, url or row.address, folder, path)
        else:
            _download_state_dict(row, url or row.address, path)
    return path


def _download_state_dict(row: ZooRow, url: str, path: str) -> None:
    if not url.endswith(f"/{row.file}"):
        raise DownloadError(
            f"{row.name} is behind a page: get it with a browser from {url} and put it at {path}, "
            "or give its path as MODEL.WEIGHTS"
        )
    _download(url, path, path)


def _make(row: ZooRow, url: str, folder: str, path: str) -> None:
    unpacked = os.path.join(folder, row.name)
    if find_prefix(unpacked) is not None:
        _convert(row, unpacked, path)
        return
    placed, downloaded = unpacked + ".tar.gz", unpacked + ".download.tar.gz"
    archive = placed if os.path.isfile(placed) else downloaded
    if not os.path.isfile(archive):
        _download(url, archive, placed)
    temporary = tempfile.mkdtemp(prefix=f".{row.name}.", dir=folder)
    try:
        unpack(archive, temporary)
        _convert(row, temporary, path)
    except ValueError:
        if archive == downloaded:
            os.remove(archive)  # It is no use to a later call. The user's own stays.
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if archive == downloaded:
        os.remove(archive)


def _download(url: str, archive: str, placed: str) -> None:
    try:
        download(url, archive)
    except DownloadError as error:
        raise DownloadError(
            f"cannot download {error}. Without a network: get {url} elsewhere and put it at "
            f"{placed}, or give its path (archive or unpacked folder) as MODEL.WEIGHTS"
        ) from error


def _convert(row: ZooRow, source: str, path: str) -> None:
    checkpoint = DeepLab2Checkpoint(source)
    weights, unknown = convert_checkpoint(checkpoint, show_progress=True)
    if unknown and row.model != "ImageNet":  # Which has a classifier that nothing here needs.
        raise ValueError(
            f"no network here has {len(unknown)} of the {len(checkpoint)} variables of "
            f"{row.name} ({unknown[0]}, ...)"
        )
    write_weights(path, weights, row.address)
    logger.info("%s: %d weights in %s", row.name, len(weights), path)


class DeepLab2ZooHandler(PathHandler):
    """Makes ``deeplab2://NAME`` a path that Detectron2 can load from."""

    def _get_supported_prefixes(self) -> List[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        name = path[len(PREFIX) :]
        return fetch(name[: -len(".pth")] if name.endswith(".pth") else name)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return open(self._get_local_path(path), mode, buffering=buffering)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        return True  # As good as there; fetching says what is wrong if not.
