"""What of a network no pretraining has."""

from typing import Set

from torch import nn


def new_names(model: nn.Module) -> Set[str]:
    """
    Names of a model's parameters and buffers that pretraining does not have.

    A module says so of its own by ``new_parts``, words that are in their names: of a backbone those
    that no ImageNet network has, of a video model's heads those that no image model has.
    """
    names: Set[str] = set()
    for prefix, module in model.named_modules():
        words = getattr(module, "new_parts", ())
        if words:
            start = f"{prefix}." if prefix else ""
            own = (name for name in module.state_dict() if any(word in name for word in words))
            names.update(start + name for name in own)
    return names
