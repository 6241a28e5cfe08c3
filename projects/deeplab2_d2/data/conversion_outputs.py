"""What a conversion may write over: what an earlier one wrote, and nothing else."""

import json
import os
from typing import Any, Dict, Iterable, Mapping, Sequence, Set

from ..structures import open_image

# Stands in all PNGs and annotations of a conversion.
SOFTWARE = "deeplab2_d2.data.convert"


def check_outputs(
    folder: str,
    paths: Mapping[str, str],
    pngs: Sequence[str],
    *,
    inputs: Iterable[str],
    input_folders: Iterable[str],
    earlier: Mapping[str, str],
) -> None:
    """
    Check, before anything is written, that a conversion destroys no file of others.

    Links are followed; what a file is, decides, not what it is called.

    Args:
        folder: of the dataset.
        paths: of the split's files, relative to it; see ``panoptic_dataset.json``.
        pngs: that are to be written, relative to ``paths["panoptic"]``.
        inputs: files that are read.
        input_folders: folders that images and maps are read from.
        earlier: ``paths`` of an earlier conversion of this split; empty if there is none.

    Raises:
        ValueError: naming the file or the folder.
    """
    panoptic = os.path.join(folder, paths["panoptic"])
    annotations = [os.path.join(folder, paths[key]) for key in ("panoptic_json", "instances_json")]
    outputs = [os.path.join(panoptic, png) for png in pngs] + annotations
    read = {os.path.realpath(path): path for path in inputs}
    for path in outputs:
        if os.path.realpath(path) in read:
            raise ValueError(
                f"--output must not lead to files that are read, but {path} is "
                f"{read[os.path.realpath(path)]}"
            )
    for input_folder in input_folders:
        parts = os.path.realpath(panoptic), os.path.realpath(input_folder)
        if os.path.commonpath(parts) == parts[0]:
            raise ValueError(
                "--output must not lead to a folder that is read, but the annotations' "
                f"{panoptic} is {input_folder}, or has it in it"
            )
    written = _written_by(folder, earlier)
    for path in outputs:
        if os.path.lexists(path) and os.path.realpath(path) not in written and not _is_own(path):
            raise ValueError(
                f"--output must not lead to files that no conversion wrote, but there is {path}"
            )


def _written_by(folder: str, earlier: Mapping[str, str]) -> Set[str]:
    """The files of an earlier conversion, without links."""
    if not earlier:
        return set()
    written = {os.path.join(folder, earlier[key]) for key in ("panoptic_json", "instances_json")}
    for annotation in _read_json(os.path.join(folder, earlier["panoptic_json"])).get(
        "annotations", ()
    ):
        written.add(os.path.join(folder, earlier["panoptic"], annotation["file_name"]))
    return {os.path.realpath(path) for path in written}


def _is_own(path: str) -> bool:
    """Whether a file says that a conversion wrote it, which need not have come to its end."""
    if path.endswith(".json"):
        return _read_json(path).get("info") == {"contributor": SOFTWARE}
    try:
        with open_image(path) as image:
            return image.info.get("Software") == SOFTWARE
    except (ValueError, OSError):
        return False


def _read_json(path: str) -> Dict[str, Any]:
    """The content of a JSON object; an empty one where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
