"""
Checkpoints of DeepLab2, and of Google's DeepLab before it: where their files are, and which of
their tensors are weights.
"""

import glob
import os
import re
from typing import Dict, Iterator, List, Mapping, Optional, Tuple, Union

import numpy as np

from .moat_names import AVERAGE
from .moat_names import ROOT as MOAT_ROOT
from .sorted_table import CheckpointFormatError
from .tensor_bundle import TensorBundle

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
# What a checkpoint holds beside weights: an optimizer's state and counters.
_SLOT = "/.OPTIMIZER_SLOT/"
_NO_WEIGHTS = re.compile(r"(optimizer|backbone_optimizer)/|(save_counter|global_step|step)$")
# The same in checkpoints by name: slots of optimizers, averages, counters.
_NO_NAMED_WEIGHTS = re.compile(
    r"(.*/)?(Momentum|Adam|Adam_1|RMSProp|RMSProp_1|Adagrad|ExponentialMovingAverage"
    r"|global_step|beta1_power|beta2_power)"
)
_LATEST = re.compile(r'^model_checkpoint_path:\s*"([^"]*)"', re.MULTILINE)


class DeepLab2Checkpoint(Mapping[str, np.ndarray]):
    """
    The weights of a TensorFlow checkpoint: key to values, read when asked for.

    Keys are paths in the object graph; of a checkpoint of TF-Slim, which has none, names of
    variables.

    Args:
        path: prefix, index file, or the folder that holds one checkpoint.

    Attributes:
        prefix: the checkpoint's files without their endings.
        ignored: the other tensors: optimizer slots, averages, counters, the object graph.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if a folder holds several and does not say which is the latest.
        CheckpointFormatError: if a file is cut short, damaged or of another format.
    """

    def __init__(self, path: Union[str, "os.PathLike[str]"]) -> None:
        prefix = find_prefix(os.fspath(path))
        if prefix is None:
            raise FileNotFoundError(
                f"{os.fspath(path)}: no TensorFlow checkpoint (PREFIX.index and its data files)"
            )
        self.prefix = prefix
        self._bundle = TensorBundle(prefix)
        entries = self._bundle.entries
        readable = [key for key, entry in entries.items() if entry.is_readable]
        if any(key.endswith(_SUFFIX) for key in readable):
            self._keys = {
                key[: -len(_SUFFIX)]: key
                for key in readable
                if key.endswith(_SUFFIX)
                and _SLOT not in key
                and not _NO_WEIGHTS.match(key[: -len(_SUFFIX)])
            }
        else:
            self._keys = {key: key for key in readable if not _NO_NAMED_WEIGHTS.fullmatch(key)}
            # MOAT was evaluated with the averages; research/deeplab's are of no use.
            averages = [k for k in readable if k.startswith(MOAT_ROOT) and k.endswith(AVERAGE)]
            self._keys.update({key[: -len(AVERAGE)]: key for key in averages})
        self.ignored: List[str] = sorted(set(self._bundle) - set(self._keys.values()))

    def __getitem__(self, key: str) -> np.ndarray:
        return self._bundle.read(self._keys[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def shapes(self) -> Dict[str, Tuple[int, ...]]:
        """Key to shape, in TensorFlow's layout; no value is read."""
        return {key: self._bundle.entries[name].shape for key, name in self._keys.items()}

    def verify(self) -> int:
        """Read every tensor, slots included, against its checksum; returns how many."""
        names = [name for name, entry in self._bundle.entries.items() if entry.is_readable]
        for name in names:
            self._bundle.read(name)
        return len(names)


def find_prefix(path: str) -> Optional[str]:
    """
    The prefix of the checkpoint that a path means; None if there is none.

    Args:
        path: prefix, index file, or a folder. In a folder its ``checkpoint`` file decides; else it,
            or the one folder inside it, must hold one checkpoint.
    """
    if path.endswith(".index") and os.path.isfile(path):
        return path[: -len(".index")]
    if os.path.isfile(path + ".index"):
        return path
    if not os.path.isdir(path):
        _refuse_first_format(path)
        return None
    prefixes = _prefixes_in(path)
    if not prefixes:
        folders = [entry.path for entry in os.scandir(path) if entry.is_dir()]
        return find_prefix(folders[0]) if len(folders) == 1 else None
    if len(prefixes) > 1:
        names = ", ".join(os.path.basename(prefix) for prefix in prefixes)
        raise ValueError(f"{path} holds several checkpoints ({names}); give the prefix of one")
    return prefixes[0]


# The end of a sorted table, little-endian.
_TABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")


def _refuse_first_format(path: str) -> None:
    """
    Raises:
        CheckpointFormatError: for a checkpoint of TensorFlow's first format, which is one table
            that holds the values, too (or several, PATH-00000-of-0000N).
    """
    for file in (path, *glob.glob(glob.escape(path) + "-00000-of-?????")):
        if not os.path.isfile(file) or os.path.getsize(file) < len(_TABLE_MAGIC):
            continue
        with open(file, "rb") as stream:
            stream.seek(-len(_TABLE_MAGIC), os.SEEK_END)
            if stream.read() == _TABLE_MAGIC:
                raise CheckpointFormatError(
                    file,
                    0,
                    "a checkpoint of TensorFlow's first format (V1), which is not read: restore it "
                    "with TensorFlow and save it with tf.compat.v1.train.Saver, which writes an "
                    ".index file and its data",
                )


def _prefixes_in(folder: str) -> List[str]:
    """The checkpoints of a folder, only the latest where a ``checkpoint`` file names it."""
    state = os.path.join(folder, "checkpoint")
    if os.path.isfile(state):
        with open(state, encoding="utf-8", errors="replace") as file:
            latest = _LATEST.search(file.read())
        if latest:
            # The path is that of the machine that wrote it: only its last part counts.
            prefix = os.path.join(folder, os.path.basename(latest[1]))
            if os.path.isfile(prefix + ".index"):
                return [prefix]
    names = sorted(name for name in os.listdir(folder) if name.endswith(".index"))
    return [os.path.join(folder, name[: -len(".index")]) for name in names]
