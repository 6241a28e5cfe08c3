"""Parts of a network that modules tell of their own: what no pretraining has, what classifies."""

from typing import Set

from torch import nn


def new_names(model: nn.Module) -> Set[str]:
    """
    Names of a model's parameters and buffers that pretraining does not have.

    A module says so of its own by ``new_parts``, words that are in their names: of a backbone those
    that no ImageNet network has, of a video model's heads those that no image model has.
    """
    return _names_of(model, "new_parts")


def classifier_names(model: nn.Module) -> Set[str]:
    """
    Names of the parameters of a model's last layers, which may learn at a rate of their own.

    A module says so of its own by ``classifier_parts``, words that are in their names.
    """
    return _names_of(model, "classifier_parts")


def _names_of(model: nn.Module, attribute: str) -> Set[str]:
    names: Set[str] = set()
    for prefix, module in model.named_modules():
        words = getattr(module, attribute, ())
        if words:
            start = f"{prefix}." if prefix else ""
            own = (name for name in module.state_dict() if any(word in name for word in words))
            names.update(start + name for name in own)
    return names
