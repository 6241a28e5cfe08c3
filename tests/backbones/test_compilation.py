"""Networks of each family go through dynamo and export whole, and compute the same."""

import warnings

import pytest
import torch
from narrow_backbones import narrow_backbone

pytestmark = pytest.mark.slow

# Convolutions with everything that a block can have, inverted residuals, axial attention, the
# memory path with its decoder stacks, branches of several resolutions, and searched cells.
_FAMILIES = [
    "resnet50_with_all",
    "mobilenet_v3_small",
    "max_deeplab_s_backbone",
    "max_deeplab_tiny",
    "hrnet_wider_plus",
    "auto_deeplab_s",
]


@pytest.mark.parametrize("name", _FAMILIES)
def test_evaluation_forward_compiles_without_graph_breaks(name: str) -> None:
    backbone, images = narrow_backbone(name, 16), torch.randn(1, 3, 33, 49)
    torch._dynamo.reset()
    compiled = torch.compile(backbone, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        expected, found = backbone(images), compiled(images)
    for key, feature in expected.items():
        torch.testing.assert_close(found[key], feature, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", _FAMILIES)
def test_evaluation_forward_exports(name: str) -> None:
    backbone, images = narrow_backbone(name, 16), torch.randn(1, 3, 33, 49)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(backbone, (images,))
        expected, found = backbone(images), program.module()(images)
    for key, feature in expected.items():
        torch.testing.assert_close(found[key], feature, atol=1e-4, rtol=1e-4)
