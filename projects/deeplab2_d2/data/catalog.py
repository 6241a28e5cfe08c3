"""Names of registered datasets, and the folder that they are looked for in."""

import difflib
import os

from detectron2.data import DatasetCatalog

from .registration import broken_markers
from .shared_names import is_registered


def datasets_root() -> str:
    """The folder of all datasets: ``$DETECTRON2_DATASETS``, or ``datasets``."""
    return os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets"))


def check_registered(name: str, source: str = "") -> None:
    """
    Args:
        name: of a dataset.
        source: what names it, such as a config key.

    Raises:
        KeyError: if no dataset of that name is registered; see :func:`describe_missing`.
    """
    if not is_registered(name):
        prefix = f"{source}: " if source else ""
        raise KeyError(prefix + describe_missing(name))


def describe_missing(name: str) -> str:
    """
    What to say of a dataset that is not registered.

    Args:
        name: that was asked for.

    Returns:
        a sentence with names near it, the folder where one's own datasets are looked for, and why
        files there that may have described it could not be used.
    """
    near = difflib.get_close_matches(name, DatasetCatalog.list(), n=3, cutoff=0.6)
    hint = f"near it are {', '.join(near)}" if near else "no name is near it"
    folder = os.path.abspath(datasets_root())
    is_there = "" if os.path.isdir(folder) else ", which does not exist"
    reasons = "".join(f"; {reason}" for reason in broken_markers(name))
    return (
        f"no such dataset: {name!r} is not registered; {hint}. One's own are looked for in "
        f"{folder}{is_there} ($DETECTRON2_DATASETS){reasons}"
    )
