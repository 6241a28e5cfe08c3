"""What tests of the CUDA kernels share: where they run, in which order of threads, and equality."""

import torch
from hypothesis import HealthCheck, settings

# The fixture only says where the kernels run.
few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Of emulated threads: the first that could go on, the same counted from the last, any.
SCHEDULES = ["", "reversed", "1"]
FLOATS = [torch.float32, torch.float16, torch.bfloat16]


def to_device(device, *tensors):
    # A GPU's copies are other tensors; in emulation they must be, too.
    return [tensor.clone().to(device) for tensor in tensors]


def assert_equal(ours, theirs):
    for left, right in zip(ours, theirs):
        assert left.dtype == right.dtype and torch.equal(left.cpu(), right)


def schedules(device, monkeypatch):
    """Runs of which each must give the same: on a GPU, or in orders of threads in emulation."""
    for schedule in SCHEDULES:
        monkeypatch.setenv("CUDA_ON_CPU_SCHEDULE", schedule)
        yield schedule
