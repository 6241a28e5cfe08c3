"""What tests of the CUDA kernels share: where they run, in which order of threads, and equality."""

import torch
from hypothesis import HealthCheck, settings

# The fixture only says where the kernels run.
few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FLOATS = [torch.float32, torch.float16, torch.bfloat16]


def to_device(device, *tensors):
    # A GPU's copies are other tensors; in emulation they must be, too.
    return [tensor.clone().to(device) for tensor in tensors]


def assert_equal(ours, theirs):
    for left, right in zip(ours, theirs):
        assert left.dtype == right.dtype and torch.equal(left.cpu(), right)


def schedules(device, monkeypatch):
    """
    Runs of which each must give the same: of a GPU, or of orders of threads in emulation (the first
    that could go on, the same from the last, any).
    """
    for schedule in ("", "reversed", "1"):
        monkeypatch.setenv("CUDA_ON_CPU_SCHEDULE", schedule)
        yield schedule
