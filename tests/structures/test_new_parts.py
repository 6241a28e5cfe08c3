"""What a network says of its parts that no pretraining has."""

from torch import nn

from deeplab2_d2.structures import new_names


class _Encoder(nn.Module):
    new_parts = ("extra",)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(1, 1)
        self.extra_stage = nn.BatchNorm1d(1, affine=False)


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"bottom_up": _Encoder()})
        self.extra = nn.Linear(1, 1)


def test_a_module_names_its_own_new_parts_wherever_it_stands() -> None:
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    # What stands beside it is not its own, whatever it is called.
    assert new_names(_Model()) == {f"backbone.bottom_up.extra_stage.{name}" for name in buffers}
    assert new_names(_Encoder()) == {f"extra_stage.{name}" for name in buffers}
    assert new_names(nn.Linear(1, 1)) == set()
