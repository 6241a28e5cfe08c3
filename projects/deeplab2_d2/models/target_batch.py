"""The mapper's targets, stacked to the size of the network's input."""

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Value of a map's padding; None for what is no map (a list of classes) and is stacked as it is.
Padding = Optional[float]


def stack_targets(
    batched_inputs: Sequence[Mapping[str, Any]],
    padding_values: Mapping[str, Padding],
    *,
    size: Tuple[int, int],
    device: torch.device,
) -> Dict[str, Tensor]:
    """
    Stack targets of the mapper; maps are padded at the bottom and the right.

    Args:
        batched_inputs: samples of the mapper.
        padding_values: the targets that are needed, and the value of their padding: maps are
            (..., h, w) each, others of one shape.
        size: (height, width) of the network input.
        device: where the result goes.

    Returns:
        Name to (N, ..., height, width), or (N, ...) of what is no map.

    Raises:
        KeyError: if a sample lacks a target; names the sample's file and the key.
    """
    stacked: Dict[str, List[Tensor]] = {name: [] for name in padding_values}
    for sample in batched_inputs:
        for name, value in padding_values.items():
            target = _read_target(sample, name).to(device, non_blocking=True)
            if value is not None:
                padding = (0, size[1] - target.shape[-1], 0, size[0] - target.shape[-2])
                target = F.pad(target, padding, value=value) if any(padding) else target
            stacked[name].append(target)
    return {name: torch.stack(tensors) for name, tensors in stacked.items()}


def _read_target(sample: Mapping[str, Any], name: str) -> Tensor:
    if name not in sample:
        raise KeyError(
            f"target {name!r} is missing in the sample of {sample.get('file_name')!r}: "
            "training needs the mapper of the model"
        )
    return sample[name]
