"""State dicts of timm's and torchvision's networks in a model whose backbone is one of them."""

import logging
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from torch import nn

from .pickled_file import WEIGHT_KEYS

logger = logging.getLogger(__name__)


def adopt_library_weights(loaded: Mapping[str, Any], model: nn.Module) -> Optional[Dict[str, Any]]:
    """
    A library's weights under a model's names.

    A backbone says by a method ``adopt_weights`` that it is a part of a library's network, and
    which of that network's weights are its own.

    Args:
        loaded: what a file holds: weights by name, or with them among other things.
        model: any.

    Returns:
        The model's names to values; None if the model has no such backbone or the weights are not
        those of its network (a checkpoint of the whole model is not).
    """
    weights = next((loaded[key] for key in WEIGHT_KEYS if key in loaded), loaded)
    for name, backbone in _library_backbones(model):
        start = f"{name}." if name else ""
        if start and any(key.startswith(start) for key in weights):
            continue
        adopted = backbone.adopt_weights(weights)
        if adopted is not None:
            unused = len(weights) - len(adopted)
            logger.info(
                "weights: %d of %s, %d that a backbone has not (a classifier's)",
                len(adopted),
                backbone.title,
                unused,
            )
            return {start + key: value for key, value in adopted.items()}
    return None


def _library_backbones(model: nn.Module) -> Iterator[Tuple[str, Any]]:
    for name, module in model.named_modules():
        if hasattr(module, "adopt_weights"):
            yield name, module
