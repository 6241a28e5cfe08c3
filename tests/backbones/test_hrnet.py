"""Atrous HRNet computes the strided network's values, where nothing comes back from coarse maps."""

import dataclasses

import pytest
import torch
from torch import nn

from deeplab2_d2.backbones.hrnet import (
    HIGH_RESOLUTION_NETWORKS,
    BranchStageSpec,
    HighResolutionNetwork,
)
from deeplab2_d2.layers import Norm


def _network(name: str, output_stride: int) -> HighResolutionNetwork:
    """Short and narrow, without the way from coarse branches to fine ones, which is resized."""
    row = HIGH_RESOLUTION_NETWORKS[name]
    stages = tuple(
        BranchStageSpec(1, (2,) * len(stage.channels), stage.channels) for stage in row.stages
    )
    torch.manual_seed(0)
    network = HighResolutionNetwork(
        spec=dataclasses.replace(row, stages=stages),
        norm=Norm("BN"),
        output_stride=output_stride,
        width_multiplier=0.125,
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.running_mean, std=0.1)
    for stage in network.stages:
        for target, row_of_layers in enumerate(stage[0].fusions):
            for layer in row_of_layers[target + 1 :]:
                nn.init.zeros_(layer[0].batch_norm.weight)
                nn.init.zeros_(layer[0].batch_norm.bias)
    return network.eval()


@pytest.mark.parametrize("name", ["hrnet_w18_plus", "hrnet_wider_plus"])
@pytest.mark.parametrize("output_stride", [8, 16])
@torch.inference_mode()
def test_dense_branches_subsampled_equal_the_strided_ones(name: str, output_stride: int) -> None:
    strided, dense = _network(name, 32), _network(name, output_stride)
    images = torch.randn(1, 3, 65, 97)
    expected, found = strided(images), dense(images)
    assert expected["res5"].abs().sum() > 0
    for feature, stride in (("res3", 8), ("res4", 16), ("res5", 32), ("backbone_output", 32)):
        step = max(1, stride // output_stride)
        part = found[feature][:, :, ::step, ::step]
        torch.testing.assert_close(part, expected[feature], atol=1e-4, rtol=1e-4)
