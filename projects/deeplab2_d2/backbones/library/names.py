"""State dicts of a library's whole network, and the names in a backbone that is a part of it."""

import logging
import re
from typing import Any, Dict, Mapping, Optional, Tuple

logger = logging.getLogger(__name__)

# What stands before the library's names here, and what a network may be kept under elsewhere.
_WRAPPERS = re.compile(r"^(?:body\.|model\.|network\.|module\.)+")
_COUNTER = "num_batches_tracked"
Shapes = Mapping[str, Tuple[int, ...]]


def adopt_by_name(weights: Mapping[str, Any], wanted: Shapes) -> Optional[Dict[str, Any]]:
    """
    Take what a backbone has from a state dict of the library.

    timm keeps a part of a network under names in which some dots are underscores, so that both are
    one here.

    Args:
        weights: the library's names to values.
        wanted: names of the backbone's state to shapes.

    Returns:
        The backbone's names to values; None unless there is a value for each but counters.
    """
    by_words: Dict[str, str] = {}
    for name in weights:
        by_words.setdefault(_words(name), name)
    found = {name: by_words.get(_words(name)) for name in wanted}
    if any(source is None and not name.endswith(_COUNTER) for name, source in found.items()):
        return None
    return {name: weights[source] for name, source in found.items() if source is not None}


def adopt_by_order(
    weights: Mapping[str, Any], wanted: Shapes, library: Shapes, title: str
) -> Optional[Dict[str, Any]]:
    """
    Take what a backbone has from another port's state dict, in which other names stand in order.

    Counters aside, both must have as many tensors, and the k-th of both the same shape and the same
    last word (weight, bias, running_mean, running_var).

    Args:
        weights: the port's names to values.
        wanted: see :func:`adopt_by_name`.
        library: the library's names to shapes, of the whole network.
        title: of the network, for the log.
    """
    theirs = [name for name in weights if not name.endswith(_COUNTER)]
    ours = [name for name in library if not name.endswith(_COUNTER)]
    if len(theirs) != len(ours):
        return None
    for their, our in zip(theirs, ours):
        is_same = tuple(getattr(weights[their], "shape", ())) == tuple(library[our])
        if not is_same or their.rpartition(".")[2] != our.rpartition(".")[2]:
            return None
    logger.info(
        "weights: their names are not those of %s; all %d tensors are taken in their order, in "
        "which shapes and last words are the same",
        title,
        len(ours),
    )
    return adopt_by_name({our: weights[their] for their, our in zip(theirs, ours)}, wanted)


def _words(name: str) -> str:
    return _WRAPPERS.sub("", name).replace("_", ".")
