"""MODEL.BACKBONE.FREEZE_AT for every family: which weights are of the first stages."""

import logging
from typing import Dict, List, Set, Tuple

import torch
from torch import Tensor, nn

from ..structures import new_names
from .endpoints import EndpointBackbone

logger = logging.getLogger(__name__)

_KEY = "MODEL.BACKBONE.FREEZE_AT"
# Endpoints are told apart on an image of this side: three cells at stride 32.
_SIDE = 65


def freeze_stages(backbone: EndpointBackbone, freeze_at: int, *, in_channels: int) -> None:
    """
    Let the first stages of a backbone learn nothing: neither weights nor moving statistics.

    As in Detectron2's ResNets, 1 is the stem and k from 2 to 5 all up to ``resk``: what that
    endpoint is computed from, so that it holds for every family. What no pretraining has (mask
    transformers, memory, stages after the pretrained ones) learns in any case.

    Args:
        backbone: changed in place.
        freeze_at: the last frozen stage; 0 = none.
        in_channels: of its images.

    Raises:
        ValueError: if the backbone has no such stage, or its endpoints do not follow one from
            another, so that there are no first stages.
    """
    if freeze_at == 0:
        return
    stages = stage_weights(backbone, in_channels)
    if freeze_at not in stages:
        raise ValueError(
            f"config key {_KEY} must be 0 or a stage of {type(backbone).__name__}, "
            f"{sorted(stages)}, got {freeze_at}"
        )
    frozen = stages[freeze_at]
    for name, parameter in backbone.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    norms = [
        module
        for name, module in backbone.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and f"{name}.weight" in frozen
    ]
    backbone.freeze_norms(norms)
    logger.info(
        "config key %s %d: %d weights up to res%d are frozen, SOLVER.* has no effect on them",
        _KEY,
        freeze_at,
        len(frozen),
        freeze_at,
    )


def stage_weights(backbone: EndpointBackbone, in_channels: int) -> Dict[int, Set[str]]:
    """
    The names of the parameters that ``res1``, ``res2``, ... are computed from; or, where a network
    says so itself (``stage_parts``), of its first stages.

    Args:
        backbone: on any device, also without memory for its weights (meta).
        in_channels: of its images.

    Returns:
        a set a stage, each within the next; without what is new to the task.

    Raises:
        ValueError: if one is not within the next.
    """
    stages: Dict[int, Set[str]] = {}
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}
    if backbone.stage_parts:
        starts: Tuple[str, ...] = ()
        for number, parts in enumerate(backbone.stage_parts, start=1):
            starts += tuple(f"{part}." for part in parts)
            stages[number] = {n for n in names.values() if f"{n}.".startswith(starts)}
        return stages
    new, endpoints = new_names(backbone), _endpoints(backbone, in_channels)
    for number in range(1, 6):
        if f"res{number}" in endpoints:
            leaves = _leaves(endpoints[f"res{number}"])
            stages[number] = {names[key] for key in leaves if key in names} - new
    numbers = sorted(stages)
    for before, after in zip(numbers, numbers[1:]):
        if not stages[before] < stages[after]:
            raise ValueError(
                f"config key {_KEY} must be 0 for {type(backbone).__name__}, whose res{after} is "
                f"not computed from res{before} and more: it has no first stages"
            )
    return stages


def _endpoints(backbone: EndpointBackbone, in_channels: int) -> Dict[str, Tensor]:
    """Every endpoint of an image, with the graph that leads to it."""
    weight = next(backbone.parameters())
    images = torch.zeros(1, in_channels, _SIDE, _SIDE, device=weight.device, dtype=weight.dtype)
    is_training = backbone.training
    backbone.eval()
    try:
        with torch.enable_grad():
            return backbone.endpoints(images)
    finally:
        backbone.train(is_training)


def _leaves(output: Tensor) -> Set[int]:
    """The tensors that an output is computed from, by their ``id``."""
    leaves: Set[int] = set()
    seen: Set[object] = set()
    nodes: List[object] = [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        nodes += [previous for previous, _ in node.next_functions]  # type: ignore[attr-defined]
    return leaves
