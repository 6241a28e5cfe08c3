"""Tables made in a trace do not stay, and those of before do not enter it."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from deeplab2_d2.structures import ClassMap


class _Apply(torch.nn.Module):
    def __init__(self, class_map: ClassMap) -> None:
        super().__init__()
        self.class_map = class_map

    def forward(self, channels: torch.Tensor) -> torch.Tensor:
        return self.class_map.apply(channels)


def test_eager_after_an_export_without_tracing_of_bytecode() -> None:
    module, channels = _Apply(ClassMap((-1, 0, 1))), torch.tensor([0, 1, 2])
    program = torch.export.export(module, (channels,), strict=False)
    assert module(channels).tolist() == [-1, 0, 1]
    assert program.module()(channels).tolist() == [-1, 0, 1]


def test_real_before_and_after_fake() -> None:
    class_map, channels = ClassMap((0, -1, 1)), torch.tensor([0, 1, 2])
    assert class_map.apply(channels).tolist() == [0, -1, 1]
    with FakeTensorMode() as mode:
        assert class_map.apply(mode.from_tensor(channels)).shape == (3,)
    assert ClassMap((0, 1, -1)).apply(channels).tolist() == [0, 1, -1]
    assert class_map.apply(channels).tolist() == [0, -1, 1]
