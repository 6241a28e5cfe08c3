"""The mapper's targets, stacked to the size of the network's input."""

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


def stack_targets(
    batched_inputs: Sequence[Mapping[str, Any]],
    padding_values: Mapping[str, float],
    *,
    size: Tuple[int, int],
    device: torch.device,
) -> Dict[str, Tensor]:
    """
    Stack maps of the mapper, padded at the bottom and the right.

    Args:
        batched_inputs: samples of the mapper.
        padding_values: the targets that are needed, (..., h, w) each, and the value of padding.
        size: (height, width) of the network input.
        device: where the result goes.

    Returns:
        Name to (N, ..., height, width).

    Raises:
        KeyError: if a sample lacks a target; names the sample's file and the key.
    """
    stacked: Dict[str, List[Tensor]] = {name: [] for name in padding_values}
    for sample in batched_inputs:
        for name, value in padding_values.items():
            target = read_target(sample, name).to(device, non_blocking=True)
            padding = (0, size[1] - target.shape[-1], 0, size[0] - target.shape[-2])
            stacked[name].append(F.pad(target, padding, value=value) if any(padding) else target)
    return {name: torch.stack(tensors) for name, tensors in stacked.items()}


def read_target(sample: Mapping[str, Any], name: str) -> Tensor:
    """
    Raises:
        KeyError: if the sample lacks the target.
    """
    if name not in sample:
        raise KeyError(
            f"target {name!r} is missing in the sample of {sample.get('file_name')!r}: "
            "training needs a mapper of deeplab2_d2.data"
        )
    return sample[name]
