"""The checkpoints that a training has left in its folder."""

import os
from typing import List, Optional, Tuple

from .pickled_file import check_whole_and_sound, read_iteration
from .sorted_table import CheckpointFormatError

# Beside checkpoints: what a killed process was writing, and the dump of a batch.
_OTHERS = (".", "non_finite_loss")


def read_tag(folder: str) -> str:
    """
    What ``last_checkpoint`` names; "" where it is lost, empty or no text.

    Raises:
        ValueError: if it names something outside of the folder.
    """
    tag = os.path.join(folder, "last_checkpoint")
    if not os.path.isfile(tag):
        return ""
    with open(tag, "rb") as file:
        try:
            name = file.read().decode().strip().strip("\0")
        except UnicodeDecodeError:
            return ""
    if name != os.path.basename(name):
        newest = os.path.basename(find_newest(folder))
        mend = f"write {newest!r}, the newest whole checkpoint, into it" if newest else "remove it"
        raise ValueError(f"{tag} must name a file of its own folder, got {name!r}; {mend}")
    return name


def newest_of_folder(folder: str) -> str:
    """
    The checkpoint that ``last_checkpoint`` names, or else the newest whole one; "" without any.

    Raises:
        ValueError, CheckpointFormatError: see :func:`read_tag` and :func:`find_newest`.
    """
    name = read_tag(folder)
    path = os.path.join(folder, name)
    return path if name and os.path.isfile(path) else find_newest(folder)


def find_newest(folder: str) -> str:
    """
    The checkpoint of a training that has gone furthest, of those that are neither cut short nor
    damaged.

    A checkpoint of a training is one that knows its iteration; weights alone are none.

    Returns:
        Its path, or "" where the folder has no checkpoint.

    Raises:
        CheckpointFormatError: if there are files of which none can be read.
    """
    sound: List[Tuple[int, str]] = []
    damaged: Optional[CheckpointFormatError] = None
    for path in _list_files(folder):
        try:
            iteration = read_iteration(path)
        except CheckpointFormatError as error:
            damaged = damaged or error
            continue
        if iteration is not None:
            sound.append((iteration, path))
    for _, path in sorted(sound, reverse=True):
        try:
            check_whole_and_sound(path)
        except CheckpointFormatError as error:
            damaged = damaged or error
        else:
            return path
    if damaged is not None:
        raise CheckpointFormatError(
            damaged.path,
            damaged.offset,
            f"{damaged.reason}; no checkpoint of {folder} is whole, and a training from the start "
            "would overwrite them: restore one, or give another OUTPUT_DIR",
        )
    return ""


def _list_files(folder: str) -> List[str]:
    if not os.path.isdir(folder):
        return []
    names = [name for name in os.listdir(folder) if name.endswith(".pth")]
    return [os.path.join(folder, name) for name in sorted(names) if not name.startswith(_OTHERS)]
