"""What of a network no pretraining has."""

from typing import Set

from torch import nn


def new_names(model: nn.Module) -> Set[str]:
    """
    Names of a model's parameters and buffers that are new to the dense task.

    A module says so of its own by ``new_parts``, words that are in their names; weights that were
    trained on ImageNet have none of them.
    """
    names: Set[str] = set()
    for prefix, module in model.named_modules():
        words = getattr(module, "new_parts", ())
        if words:
            start = f"{prefix}." if prefix else ""
            own = (name for name in module.state_dict() if any(word in name for word in words))
            names.update(start + name for name in own)
    return names
