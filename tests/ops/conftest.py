"""Where the CUDA kernels run: on a GPU, or in emulation on the CPU."""

import contextlib
import importlib

import emulated_cuda
import pytest
import torch

import deeplab2_d2  # noqa: F401  # isort: skip
from deeplab2_d2 import ops

# Operator to the module of its gradient.
_DIFFERENTIABLE = {
    "upsampled_cross_entropy": importlib.import_module("deeplab2_d2.ops.cross_entropy"),
    "axial_attention": importlib.import_module("deeplab2_d2.ops.axial_attention"),
}


@pytest.fixture(params=["kernels", "reference"])
def both_ways(request):
    """The compiled operators where they are built; then the reference."""
    with ops.use_reference() if request.param == "reference" else contextlib.nullcontext():
        yield


@pytest.fixture(scope="session")
def emulated_operators():
    """The namespace of `torch.ops` whose CPU kernels are the CUDA kernels, in emulation."""
    torch.ops.load_library(str(emulated_cuda.build()))
    for name, module in _DIFFERENTIABLE.items():
        torch.library.register_autograd(
            f"{emulated_cuda.NAMESPACE}::{name}",
            module._backward,
            setup_context=module._save_inputs,
        )
    return getattr(torch.ops, emulated_cuda.NAMESPACE)


@pytest.fixture
def emulated_kernels(monkeypatch, request):
    """The public functions hand tensors of the CPU to the CUDA kernels, in emulation."""
    if not ops.has_extension():
        pytest.skip("the compiled operators are not built")
    emulated = request.getfixturevalue("emulated_operators")
    monkeypatch.setattr(torch.ops, "deeplab2_d2", emulated)


@pytest.fixture(
    params=[
        pytest.param("cuda", marks=pytest.mark.gpu),
        pytest.param("emulated", marks=pytest.mark.slow),
    ]
)
def kernel_device(request, monkeypatch):
    """The device of tensors that the public functions hand to the CUDA kernels."""
    if request.param == "cuda":
        # Else the reference would be compared with itself.
        monkeypatch.setenv("DEEPLAB2_D2_REQUIRE_OPS", "1")
        return "cuda"
    request.getfixturevalue("emulated_kernels")
    return "cpu"
