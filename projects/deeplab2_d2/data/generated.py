"""Folders of generated datasets: each is absent or complete, and is made once."""

import json
import logging
import os
import shutil
from typing import Any, Callable, Dict, Mapping

from ..structures import write_json

logger = logging.getLogger(__name__)


def write_once(
    folder: str, kind: str, wanted: Mapping[str, Any], write: Callable[[str], Dict[str, Any]]
) -> Dict[str, Any]:
    """
    Write a dataset, or use the complete one that is there.

    Everything is written under a temporary name beside ``folder`` and renamed at the end, so that
    ``folder`` is either absent or complete, also after an interruption.

    Args:
        folder: where it goes.
        kind: what it is, for messages.
        wanted: fields of ``info.json`` that have to agree before a complete set is used again.
        write: fills an empty folder; returns the statistics.

    Returns:
        the content of ``info.json``: ``wanted`` and the statistics.

    Raises:
        ValueError: if ``folder`` exists and was made with other options, or holds anything else.
    """
    folder = os.path.abspath(folder)
    wanted = json.loads(json.dumps(wanted))
    if os.path.exists(folder):
        return _read_complete(folder, kind, wanted)

    partial = f"{folder}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    info = {**wanted, **write(partial)}
    write_json(os.path.join(partial, "info.json"), info)
    try:
        os.rename(partial, folder)
    except OSError:
        # Another process was faster; its folder is complete, for it was renamed as well.
        shutil.rmtree(partial)
        return _read_complete(folder, kind, wanted)
    logger.info("Wrote the %s dataset to %s", kind, folder)
    return info


def _read_complete(folder: str, kind: str, wanted: Mapping[str, Any]) -> Dict[str, Any]:
    info_file = os.path.join(folder, "info.json")
    if not os.path.isfile(info_file):
        raise ValueError(f"folder {folder} exists and is no {kind} dataset: it has no info.json")
    with open(info_file) as f:
        info = json.load(f)
    for key, value in wanted.items():
        if info.get(key) != value:
            raise ValueError(
                f"folder {folder} holds a {kind} dataset with {key} {info.get(key)}, wanted "
                f"{value}; remove it or write elsewhere"
            )
    return info
