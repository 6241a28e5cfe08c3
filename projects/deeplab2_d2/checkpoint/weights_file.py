"""Weights on disk: DeepLab2's checkpoints, Detectron2's .pth and .safetensors."""

import os
import pickle
import tempfile
import zipfile
import zlib
from typing import Any, Dict, List, Mapping, Tuple

import torch
from torch import Tensor
from tqdm import tqdm

from .archive import ARCHIVE_ENDINGS, unpack
from .atomic import atomic_path
from .deeplab2_checkpoint import DeepLab2Checkpoint, find_prefix
from .load import convert_variable
from .sorted_table import CheckpointFormatError

Weights = Dict[str, Tensor]

AUTHOR = "DeepLab2"


def read_weights(path: str, show_progress: bool = False) -> Tuple[Weights, List[str]]:
    """
    Read the weights of a model.

    Args:
        path: a checkpoint of DeepLab2 (prefix, index file, folder or archive), .pth or
            .safetensors.
        show_progress: show a bar, for large checkpoints.

    Returns:
        Our names to values, and for DeepLab2's checkpoints the keys that no model of ours has.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointFormatError: if it is cut short, damaged or of another format.
    """
    if find_prefix(path) is not None:
        return convert_checkpoint(DeepLab2Checkpoint(path), show_progress)
    if path.endswith(ARCHIVE_ENDINGS) and os.path.isfile(path):
        with tempfile.TemporaryDirectory() as folder:
            unpack(path, folder)
            return convert_checkpoint(DeepLab2Checkpoint(folder), show_progress)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such checkpoint")
    if path.endswith(".safetensors"):
        return _read_safetensors(path), []
    loaded = load_pkl(path) if path.endswith(".pkl") else load_pth(path)
    weights = loaded.get("model", loaded)
    return {name: torch.as_tensor(value) for name, value in weights.items()}, []


def convert_checkpoint(
    checkpoint: DeepLab2Checkpoint, show_progress: bool = False
) -> Tuple[Weights, List[str]]:
    """
    All weights of a DeepLab2 checkpoint under our names and in our layouts.

    Args:
        checkpoint: opened for reading; every value is verified against its checksum.
        show_progress: show a bar.

    Returns:
        Our names to values, and the keys that no model of ours has.
    """
    weights, unknown = {}, []
    for key in tqdm(checkpoint, desc="converting", unit="tensor", disable=not show_progress):
        converted = convert_variable(key, checkpoint[key])
        if converted is None:
            unknown.append(key)
        else:
            weights[converted[0]] = converted[1]
    return weights, unknown


def load_pth(path: str) -> Dict[str, Any]:
    """
    What ``torch.save`` has written, onto the CPU. No code of the file runs, whatever it holds.

    Raises:
        CheckpointFormatError: if the file is cut short, damaged or no checkpoint of PyTorch, or
            holds more than tensors, numbers, strings and containers of them.
    """
    check_whole(path)
    check_sums(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointFormatError(path, 0, f"it holds more than weights ({reason})") from error


def check_sums(path: str) -> None:
    """
    Hold every value of a checkpoint against the checksum (CRC-32) that PyTorch keeps with it.

    Files of the format before PyTorch 1.6, and those written with checksums switched off, have
    none.

    Raises:
        CheckpointFormatError: naming the file and the damaged part.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if not any(member.CRC for member in members):
            return
        try:
            damaged = archive.testzip()
        except (zipfile.BadZipFile, zlib.error) as error:
            raise CheckpointFormatError(path, 0, f"the file is damaged: {error}") from error
    if damaged is not None:
        raise CheckpointFormatError(
            path, 0, f"the file is damaged: {damaged!r} does not have its checksum"
        )


# What the pickles of Detectron2's model zoo are made of.
_PICKLED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    *(
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in (
            "_reconstruct",
            "scalar",
        )
    ),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PICKLED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def load_pkl(path: str) -> Dict[str, Any]:
    """
    A pickle of Detectron2's model zoo: containers of NumPy arrays. No code of the file runs.

    Raises:
        CheckpointFormatError: if it is damaged, or holds anything else.
    """
    with open(path, "rb") as file:
        try:
            return _ArrayUnpickler(file, encoding="latin1").load()
        except pickle.UnpicklingError as error:
            reason = f"a .pkl must hold arrays alone, got {error}"
            raise CheckpointFormatError(path, file.tell(), reason) from error
        except (EOFError, ValueError, IndexError, KeyError, AttributeError) as error:
            raise CheckpointFormatError(path, file.tell(), f"no whole pickle: {error}") from error


def check_whole(path: str) -> None:
    """
    Refuse a file of PyTorch that is cut short. Only its end is looked at.

    Raises:
        CheckpointFormatError: with the file's name and size.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(4)
    # Since PyTorch 1.6 a zip archive, whose directory is written last; a pickle before.
    if start[:2] == b"PK" and not zipfile.is_zipfile(path):
        raise CheckpointFormatError(path, size, "the file ends: this checkpoint is cut short")
    if start[:2] not in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise CheckpointFormatError(path, 0, "neither a checkpoint of PyTorch nor of TensorFlow")


def write_weights(path: str, weights: Mapping[str, Tensor], source: str) -> None:
    """
    Write weights, under a temporary name until the file is whole.

    Args:
        path: ending in .pth (Detectron2's) or .safetensors.
        weights: our names to values.
        source: where they come from, kept in the file.
    """
    if path.endswith(".pth"):
        with atomic_path(path) as temporary:
            torch.save({"model": dict(weights), "__author__": AUTHOR, "source": source}, temporary)
    elif path.endswith(".safetensors"):
        from safetensors.torch import save_file

        metadata = {"format": "pt", "author": AUTHOR, "source": source}
        contiguous = {name: value.contiguous() for name, value in weights.items()}
        with atomic_path(path) as temporary:
            save_file(contiguous, temporary, metadata)
    else:
        raise ValueError(f"path must end in .pth or .safetensors, got {path}")


def _read_safetensors(path: str) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointFormatError(path, os.path.getsize(path), str(error)) from error
