"""Names of registered datasets."""

import difflib
import os

from detectron2.data import DatasetCatalog


def check_registered(name: str, source: str = "") -> None:
    """
    Args:
        name: of a dataset.
        source: what names it, such as a config key.

    Raises:
        KeyError: if no dataset of that name is registered; with names near it, and the folder where
            one's own datasets are looked for.
    """
    names = DatasetCatalog.list()
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hint = f"near it are {', '.join(near)}" if near else "no name is near it"
    folder = os.path.abspath(os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets")))
    is_there = "" if os.path.isdir(folder) else ", which does not exist"
    prefix = f"{source}: " if source else ""
    raise KeyError(
        f"{prefix}no such dataset: {name!r} is not registered; {hint}. One's own are looked for in "
        f"{folder}{is_there} ($DETECTRON2_DATASETS)"
    )
