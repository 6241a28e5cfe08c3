"""Files of PyTorch (.pth) and of Detectron2's model zoo (.pkl), read without running their code."""

import os
import pickle
import struct
import zipfile
import zlib
from typing import IO, Any, Dict, Iterator, Mapping, Optional, Set

import torch
from torch import Tensor

from .array_pickles import unpickle_arrays
from .sorted_table import CheckpointFormatError

# Where files of trainings have the weights.
WEIGHT_KEYS = ("model", "state_dict")
# What readers of zip archives and of pickles raise for bytes that are wrong.
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, LookupError),
    *(RuntimeError, TypeError, AttributeError, ImportError, ArithmeticError, MemoryError),
    *(AssertionError, struct.error),
)
_IS_FOLDER = 0x10  # Of a member's attributes, as MS-DOS has them.
# A view that repeats its numbers takes no memory until it is copied.
_MAX_REPEATED = 16 << 20


def load_pth(path: str) -> Dict[str, Any]:
    """
    What ``torch.save`` has written, onto the CPU. No code of the file runs, whatever it holds.

    Raises:
        CheckpointFormatError: if the file is cut short, damaged or no checkpoint of PyTorch, or
            holds more than tensors, numbers, strings and containers of them by name.
    """
    check_whole_and_sound(path)
    return _load_by_name(path)


def read_iteration(path: str) -> Optional[int]:
    """
    The iteration at which a training has saved a .pth; None for weights alone.

    Values of tensors are neither read nor checked.

    Raises:
        CheckpointFormatError: as :func:`load_pth`.
    """
    loaded = _load_without_values(path)
    iteration = loaded.get("iteration")
    return iteration if isinstance(iteration, int) and "model" in loaded else None


def read_entry(path: str, name: str) -> Any:
    """
    What a .pth holds beside its tensors, by name; None where it holds nothing of that name.

    Values of tensors are neither read nor checked.

    Raises:
        CheckpointFormatError: as :func:`load_pth`.
    """
    return _load_without_values(path).get(name)


def _load_without_values(path: str) -> Dict[str, Any]:
    _check_whole(path)
    return _load_by_name(path, mmap=True if _is_zip(path) else None)


def _load_by_name(path: str, **options: Any) -> Dict[str, Any]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, **options)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointFormatError(path, 0, f"it holds more than weights ({reason})") from error
    except DAMAGE as error:
        raise CheckpointFormatError(path, 0, f"the file is damaged: {error}") from error
    loaded = _check_names(path, loaded)
    for tensor in _tensors(loaded):
        _check_extent(path, tensor)
    return loaded


def _tensors(loaded: Any) -> Iterator[Tensor]:
    """All tensors within dicts and lists, which may be within themselves."""
    seen: Set[int] = set()
    waiting = [loaded]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (Mapping, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, Mapping) else item)


def _check_extent(path: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided:
        reason = f"tensors must be dense, got one of {tensor.layout}"
        raise CheckpointFormatError(path, 0, reason)
    extent = tensor.numel() * tensor.element_size()
    if tensor.device.type == "meta" or extent > max(
        tensor.untyped_storage().nbytes(), _MAX_REPEATED
    ):
        shape = tuple(tensor.shape)
        raise CheckpointFormatError(path, 0, f"the numbers of a tensor of {shape} are not there")


def _check_names(path: str, loaded: Any) -> Dict[str, Any]:
    inner = [loaded[key] for key in WEIGHT_KEYS if isinstance(loaded, dict) and key in loaded]
    for data in (loaded, *inner):
        if not isinstance(data, Mapping) or not all(isinstance(name, str) for name in data):
            reason = f"a checkpoint must hold values by name, got {_describe(data)}"
            raise CheckpointFormatError(path, 0, reason)
    return loaded


def _describe(data: Any) -> str:
    if not isinstance(data, Mapping):
        return f"a {type(data).__name__}"
    return "the key {!r}".format(next(name for name in data if not isinstance(name, str)))


def check_whole_and_sound(path: str) -> None:
    """
    Refuse a .pth that is cut short or damaged.

    Every value is held against the checksum (CRC-32) that PyTorch keeps with it. Files of the
    format before PyTorch 1.6, and those written with checksums switched off, have none.

    Raises:
        CheckpointFormatError: naming the file and what is wrong.
    """
    _check_whole(path)
    if _is_zip(path):
        with open(path, "rb") as file:
            try:
                _check_sums(path, file)
            except DAMAGE as error:
                if isinstance(error, CheckpointFormatError):
                    raise
                reason = f"the file is damaged: {error or type(error).__name__}"
                raise CheckpointFormatError(path, 0, reason) from error


def _check_sums(path: str, file: IO[bytes]) -> None:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        for member in members:
            # PyTorch takes it for empty, whatever bytes there are.
            if member.external_attr & _IS_FOLDER and member.file_size:
                raise CheckpointFormatError(
                    path, member.header_offset, f"{member.filename!r} must be a file, got a folder"
                )
        # PyTorch stores them as they are. What is packed, or shared by several, unfolds.
        unfolded = sum(member.file_size for member in members)
        if unfolded > os.fstat(file.fileno()).st_size:
            reason = f"it must not unfold to more than it has, got {unfolded} bytes"
            raise CheckpointFormatError(path, 0, reason)
        if not any(member.CRC for member in members):
            return
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointFormatError(
            path, 0, f"the file is damaged: {damaged!r} does not have its checksum"
        )


def load_pkl(path: str) -> Dict[str, Any]:
    """
    A pickle of Detectron2's model zoo: containers of NumPy arrays. No code of the file runs.

    Raises:
        CheckpointFormatError: if it is damaged, or holds anything else.
    """
    with open(path, "rb") as file:
        try:
            loaded = unpickle_arrays(file)
        except pickle.UnpicklingError as error:
            reason = f"a .pkl must hold arrays alone, got {error}"
            raise CheckpointFormatError(path, file.tell(), reason) from error
        except DAMAGE as error:
            raise CheckpointFormatError(path, file.tell(), f"no whole pickle: {error}") from error
    return _check_names(path, loaded)


def _is_zip(path: str) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:
        raise CheckpointFormatError(path, 0, f"the file is damaged: {error}") from error


def _check_whole(path: str) -> None:
    """Refuse a file of PyTorch that is cut short. Only its end is looked at."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(4)
    # Since PyTorch 1.6 a zip archive, whose directory is written last; a pickle before.
    if start[:2] == b"PK" and not _is_zip(path):
        raise CheckpointFormatError(path, size, "the file ends: this checkpoint is cut short")
    if start[:2] not in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise CheckpointFormatError(path, 0, "neither a checkpoint of PyTorch nor of TensorFlow")
