"""The table of records, by class."""

from typing import Dict, List, Optional, Tuple, Union

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from .model_record import ModelRecord

_RECORDS: Dict[type, ModelRecord] = {}


def register(meta_architecture: type, record: ModelRecord) -> None:
    """
    Give a meta architecture its record.

    Raises:
        ValueError: if it has one already, or its checkpoint keys or option rules clash with those
            of another record.
    """
    if meta_architecture in _RECORDS:
        raise ValueError(f"{meta_architecture.__name__} has a record already")
    known = {
        words: module for _, other in all_records() for words, module in other.checkpoint_modules
    }
    for words, module in record.checkpoint_modules:
        if known.setdefault(words, module) != module:
            raise ValueError(
                f"checkpoint keys that begin with {words!r} name {known[words]!r} already, "
                f"{meta_architecture.__name__} has {module!r}"
            )
    for other_class, other in all_records():
        taken = sorted(set(other.option_rules) & set(record.option_rules))
        if taken:
            raise ValueError(
                f"option_rules of {meta_architecture.__name__} must be of messages of its own, "
                f"but {other_class.__name__} has those of {', '.join(taken)}; give none "
                "(option_rules={})"
            )
    _RECORDS[meta_architecture] = record


def all_records() -> List[Tuple[type, ModelRecord]]:
    """Every meta architecture with a record, in the order of registration."""
    return list(_RECORDS.items())


def find_record(model: Union[CfgNode, nn.Module]) -> Optional[ModelRecord]:
    """
    The record of a model's class or of the nearest of its bases.

    Args:
        model: a model, or a config (MODEL.META_ARCHITECTURE).

    Returns:
        None for a meta architecture without a record (Detectron2's own, a user's).

    Raises:
        KeyError: if the config names a meta architecture that is not registered.
    """
    if isinstance(model, nn.Module):
        kind = type(model)
    else:
        kind = META_ARCH_REGISTRY.get(model.MODEL.META_ARCHITECTURE)
    for base in getattr(kind, "__mro__", ()):
        if base in _RECORDS:
            return _RECORDS[base]
    return None
