"""Changes to converted weights that make them fit another task: all by name, all on copies."""

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import Tensor

from .names import last_layers, parameter_for_key

Weights = Dict[str, Tensor]

# The first convolutions that a backbone can have, by their names in ours.
_STEMS = (
    "backbone.stem.conv.weight",
    "backbone.stem.conv1_bn_act.conv.weight",
    "backbone.blocks.0.conv.weight",
)


def drop_last_layers(weights: Mapping[str, Tensor], groups: Sequence[str]) -> Weights:
    """
    Without the layers that are made for a number of classes or a task.

    Args:
        weights: our names to values.
        groups: "semantic", "instance" (centers, offsets, motion) or both.
    """
    prefixes: List[str] = []
    known = last_layers()
    for group in groups:
        if group not in known:
            raise ValueError(f"groups must be of {', '.join(known)}, got {group!r}")
        for prefix in known[group]:
            parameters = [parameter_for_key(prefix + word) for word in ("kernel", "_conv/kernel")]
            prefixes += [p.name.rpartition(".")[0] + "." for p in parameters if p is not None]
    return {name: value for name, value in weights.items() if not name.startswith(tuple(prefixes))}


def inflate_stem(weights: Mapping[str, Tensor], in_channels: int) -> Weights:
    """
    Let the first convolution take more channels: the new ones are zero.

    The network then starts as the image network, whatever the previous frame and heatmap (7
    channels, Motion-DeepLab) show. DeepLab2 starts that layer from scratch instead.

    Args:
        weights: our names to values, with the stem's convolution among them.
        in_channels: channels of the new input, the image's three first.
    """
    names = [name for name in _STEMS if name in weights]
    if not names:
        raise ValueError(f"weights must hold one of {', '.join(_STEMS)}, got none of them")
    old = weights[names[0]]
    if in_channels < old.shape[1]:
        raise ValueError(f"in_channels must be at least {old.shape[1]}, got {in_channels}")
    new = old.new_zeros((old.shape[0], in_channels, *old.shape[2:]))
    new[:, : old.shape[1]] = old
    return {**weights, names[0]: new}


def inflatable_stem(
    mismatched: Mapping[str, Tuple[Tuple[int, ...], Tuple[int, ...]]],
) -> Optional[str]:
    """
    The first convolution, if it differs in that the model's takes more channels.

    Args:
        mismatched: name to the shapes of the weights and of the model.
    """
    for name in _STEMS:
        old, new = mismatched.get(name, ((), ()))
        if (
            len(old) == 4
            and len(new) == 4
            and old[1] < new[1]
            and old == (new[0], old[1], *new[2:])
        ):
            return name
    return None


def remap_classes(weights: Mapping[str, Tensor], class_map: Sequence[int]) -> Weights:
    """
    Make the semantic last layer predict other classes.

    Args:
        weights: our names to values, with the semantic last layer among them.
        class_map: for each new class the old class it continues, or -1 for one that has none: it
            starts as the mean of all old classes.
    """
    parameters = [
        parameter_for_key(f"semantic_last_layer/{word}")
        for word in ("kernel", "bias", "_conv/kernel", "_conv/bias")
    ]
    names = [p.name for p in parameters if p is not None and p.name in weights]
    if not names:
        raise ValueError("weights must hold a semantic last layer, got none")
    changed = dict(weights)
    for name in names:
        old = weights[name]
        outside = [c for c in class_map if not -1 <= c < old.shape[0]]
        if outside:
            raise ValueError(
                f"class_map must hold -1 and classes below {old.shape[0]}, got {outside}"
            )
        rows = torch.cat([old, old.mean(dim=0, keepdim=True)])
        changed[name] = rows[torch.tensor(class_map, dtype=torch.int64)]
    return changed


def give_to_twins(
    checkpoint: Dict[str, Any], state: Mapping[str, Tensor], twins: Mapping[str, str]
) -> None:
    """
    Start the twins of a model's parts with the weights of those parts, in place.

    Names that Detectron2 has to guess (``matching_heuristics``) are resolved first: it refuses a
    weight that fits two modules.

    Args:
        checkpoint: its ``model`` is changed, where it has nothing of its own for a twin.
        state: of the model.
        twins: from the first words of a twin's names to those of its original.
    """
    weights = dict(checkpoint["model"])
    starts = tuple(twins)
    if checkpoint.pop("matching_heuristics", False):
        weights = {name: torch.as_tensor(value) for name, value in weights.items()}
        originals = {name: value for name, value in state.items() if not name.startswith(starts)}
        is_caffe2 = checkpoint.get("__author__") == "Caffe2"
        weights = align_and_update_state_dicts(originals, weights, c2_conversion=is_caffe2)
        # What fits nothing of the model, such as a classifier, was left out silently as well.
        weights = {name: value for name, value in weights.items() if name in state}
        checkpoint["is_start"] = True
    for name in state:
        for twin, original in twins.items():
            source = original + name[len(twin) :]
            if name.startswith(twin) and name not in weights and source in weights:
                weights[name] = weights[source]
    checkpoint["model"] = weights
