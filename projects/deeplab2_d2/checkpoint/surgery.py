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
    weights: Mapping[str, Any],
    state: Mapping[str, Tensor],
    twins: Mapping[str, str],
    *,
    has_guessed_names: bool = False,
    is_caffe2: bool = False,
) -> Dict[str, Any]:
    """
    Start the twins of a model's parts with the weights of those parts.

    Args:
        weights: names to values. What they have of a twin itself, stays.
        state: of the model.
        twins: from the first words of a twin's names to those of its original.
        has_guessed_names: Detectron2 has to guess whose the weights are (``matching_heuristics``).
            It refuses one that fits two modules, so that is done here, for the originals; what fits
            none, such as a classifier, is left out.
        is_caffe2: see Detectron2's ``align_and_update_state_dicts``.
    """
    changed = dict(weights)
    if has_guessed_names:
        starts = tuple(twins)
        originals = {name: value for name, value in state.items() if not name.startswith(starts)}
        tensors = {name: torch.as_tensor(value) for name, value in weights.items()}
        aligned = align_and_update_state_dicts(originals, tensors, c2_conversion=is_caffe2)
        changed = {name: value for name, value in aligned.items() if name in state}
    for name in state:
        for twin, original in twins.items():
            source = original + name[len(twin) :]
            if name.startswith(twin) and name not in changed and source in changed:
                changed[name] = changed[source]
    return changed
