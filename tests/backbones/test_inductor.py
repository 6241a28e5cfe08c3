"""What PyTorch's default compiler makes of axial attention."""

import pytest
import torch
from narrow_backbones import narrow_backbone


@pytest.mark.slow
def test_inductor_computes_axial_attention_alike() -> None:
    # A C++ compiler takes seconds for each kernel, so not a network: `make gpu-bench` compiles one.
    backbone = narrow_backbone("max_deeplab_s_backbone", 16)
    attention = backbone.stage5.block1.attention.height_axis
    features = torch.randn(1, attention.qkv_kernel.shape[0], 5, 7)
    torch._dynamo.reset()
    compiled = torch.compile(attention, fullgraph=True)
    with torch.no_grad():
        expected, found = attention(features), compiled(features)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
