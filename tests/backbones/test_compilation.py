"""Networks of each family go through dynamo and export whole, and compute the same."""

import dataclasses
import warnings
from typing import Any

import pytest
import torch
from narrow_backbones import narrow_backbone

from deeplab2_d2.backbones.hrnet import (
    HIGH_RESOLUTION_NETWORKS,
    BranchStageSpec,
    HighResolutionNetwork,
)
from deeplab2_d2.layers import Norm

pytestmark = pytest.mark.slow

# Convolutions with everything that a block can have, inverted residuals, axial attention, and the
# memory path with its decoder stacks; networks of the older releases, branches of several
# resolutions, and searched cells.
_FAMILIES = [
    "resnet50_with_all",
    "mobilenet_v3_small",
    "max_deeplab_s_backbone",
    "max_deeplab_tiny",
    "hrnet_short",
    "auto_deeplab_s_short",
    "xception_41",
    "resnet_v1_50_beta",
    "vgg16",
]


def _backbone(name: str) -> Any:
    if name != "hrnet_short":
        return narrow_backbone(name, 16)
    # One block in each branch of one module a stage.
    row = HIGH_RESOLUTION_NETWORKS["hrnet_wider_plus"]
    stages = tuple(
        BranchStageSpec(1, (1,) * len(stage.channels), stage.channels) for stage in row.stages
    )
    spec = dataclasses.replace(row, stages=stages, first_blocks=1)
    torch.manual_seed(0)
    return HighResolutionNetwork(
        spec=spec, norm=Norm("BN"), output_stride=16, width_multiplier=0.125
    ).eval()


@pytest.mark.parametrize("name", _FAMILIES)
def test_evaluation_forward_compiles_without_graph_breaks(name: str) -> None:
    backbone, images = _backbone(name), torch.randn(1, 3, 33, 49)
    torch._dynamo.reset()
    compiled = torch.compile(backbone, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        expected, found = backbone(images), compiled(images)
    for key, feature in expected.items():
        torch.testing.assert_close(found[key], feature, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", _FAMILIES)
def test_evaluation_forward_exports(name: str) -> None:
    backbone, images = _backbone(name), torch.randn(1, 3, 33, 49)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(backbone, (images,))
        expected, found = backbone(images), program.module()(images)
    for key, feature in expected.items():
        torch.testing.assert_close(found[key], feature, atol=1e-4, rtol=1e-4)
