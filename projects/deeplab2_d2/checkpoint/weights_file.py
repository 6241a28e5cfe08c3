"""Weights on disk: DeepLab2's checkpoints, files of PyTorch and Detectron2, .safetensors."""

import os
import tempfile
from typing import Any, Dict, List, Mapping, Tuple

import torch
from torch import Tensor
from tqdm import tqdm

from ..structures import atomic_path
from .archive import ARCHIVE_ENDINGS, unpack
from .deeplab2_checkpoint import DeepLab2Checkpoint, find_prefix
from .load import convert_variable
from .pickled_file import DAMAGE, WEIGHT_KEYS, load_pkl, load_pth
from .saving import save_pth
from .sorted_table import CheckpointFormatError
from .state_dict_names import rename_state_dict

Weights = Dict[str, Tensor]

AUTHOR = "DeepLab2"


def read_weights(path: str, show_progress: bool = False) -> Tuple[Weights, List[str]]:
    """
    Read the weights of a model.

    Args:
        path: a checkpoint of DeepLab2 (prefix, index file, folder or archive), .pth, .pkl
            or .safetensors.
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
    weights, unknown = published_weights(loaded)
    return {name: _as_tensor(path, name, value) for name, value in weights.items()}, unknown


def published_weights(loaded: Mapping[str, Any]) -> Tuple[Mapping[str, Any], List[str]]:
    """
    The weights of a file by our names, where it is of another repository that we know.

    Args:
        loaded: what the file holds: weights by name, or with them among other things.

    Returns:
        Names to values, and the names that no model of ours has.
    """
    weights = next((loaded[key] for key in WEIGHT_KEYS if key in loaded), loaded)
    renamed = rename_state_dict(weights)
    return (weights, []) if renamed is None else renamed


def named_arrays(data: Dict[str, Any]) -> Dict[str, Any]:
    """A pickle of Detectron2's model zoo, or of Caffe2's, as Detectron2 reads it."""
    if "model" in data and "__author__" in data:
        return data
    blobs = data.get("blobs", data)
    weights = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def named_by_pycls(data: Dict[str, Any]) -> Dict[str, Any]:
    """A checkpoint of pycls, as Detectron2 reads it."""
    weights = data.get("model_state", {}).items()
    kept = {name: value for name, value in weights if not name.endswith("num_batches_tracked")}
    return {"model": kept, "__author__": "pycls", "matching_heuristics": True}


def _as_tensor(path: str, name: str, value: Any) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        got = type(value).__name__
        reason = f"the value of {name!r} must be an array, got a {got}"
        raise CheckpointFormatError(path, 0, reason) from error


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


def write_weights(path: str, weights: Mapping[str, Tensor], source: str) -> None:
    """
    Write weights, under a temporary name until the file is whole.

    Args:
        path: ending in .pth (Detectron2's) or .safetensors.
        weights: our names to values.
        source: where they come from, kept in the file.
    """
    if path.endswith(".pth"):
        save_pth(path, {"model": dict(weights), "__author__": AUTHOR, "source": source})
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
    from safetensors.torch import load

    # Not mapped into memory: where another process cuts a mapped file short, this one dies.
    with open(path, "rb") as file:
        content = file.read()
    try:
        return load(content)
    except (SafetensorError, *DAMAGE) as error:
        raise CheckpointFormatError(path, os.path.getsize(path), str(error)) from error
