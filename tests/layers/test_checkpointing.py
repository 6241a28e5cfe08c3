"""Checkpointed blocks compute what they compute without, moving statistics included."""

from typing import Dict, Tuple

import pytest
import torch
from torch import Tensor

from deeplab2_d2.layers import BlockSpec, GeneralBlock, Norm


def _step(use_checkpoint: bool, norm_name: str, kind: str) -> Tuple[Tensor, Dict[str, Tensor]]:
    torch.manual_seed(0)
    channels = (16, 16) if kind == "basic" else (16, 8, 32)
    spec = BlockSpec(kind, channels, use_checkpoint=use_checkpoint, drop_path_keep_prob=0.5)
    block = GeneralBlock(16, spec, norm=Norm(norm_name)).train()
    for parameter in block.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    features = torch.randn(4, 16, 9, 7, requires_grad=True)
    torch.manual_seed(1)  # The same samples are dropped.
    output = block(features)
    output.square().sum().backward()
    found = {name: p.grad for name, p in block.named_parameters()}
    found.update(dict(block.named_buffers()))
    found["input"] = features.grad
    return output, found


@pytest.mark.parametrize("norm_name", ["BN", "SyncBN"])
@pytest.mark.parametrize("kind", ["basic", "bottleneck", "axial"])
def test_checkpoint_changes_neither_gradients_nor_statistics(norm_name: str, kind: str) -> None:
    expected, expected_found = _step(False, norm_name, kind)
    output, found = _step(True, norm_name, kind)
    torch.testing.assert_close(output, expected)
    for name, value in expected_found.items():
        torch.testing.assert_close(found[name], value, msg=name)
