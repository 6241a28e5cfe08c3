import errno

import numpy as np
import pytest
import torch
from bundle_writer import write_checkpoint
from torch import nn

from deeplab2_d2.checkpoint.checkpointer import DeepLab2Checkpointer
from deeplab2_d2.checkpoint.names import NEW_BACKBONE_WORDS
from deeplab2_d2.checkpoint.sorted_table import CheckpointFormatError
from deeplab2_d2.solver.parameter_groups import FULL_RATE_WORDS


class TinyModel(nn.Module):
    """A backbone and a head whose names are those of converted variables."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.backbone = nn.ModuleDict({"stem": nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3)})})
        self.backbone["stem"]["batch_norm"] = nn.BatchNorm2d(4)
        self.head = nn.ModuleDict({"semantic_head": nn.ModuleDict()})
        self.head["semantic_head"]["final_conv"] = nn.Conv2d(4, num_classes, 1)


BACKBONE = {
    "encoder/_stem/_conv/kernel": np.arange(108, dtype=np.float32).reshape(3, 3, 3, 4),
    "encoder/_stem/_conv/bias": np.ones(4, np.float32),
    "encoder/_stem/_batch_norm/gamma": np.full(4, 2, np.float32),
    "encoder/_stem/_batch_norm/beta": np.full(4, 3, np.float32),
    "encoder/_stem/_batch_norm/moving_mean": np.full(4, 4, np.float32),
    "encoder/_stem/_batch_norm/moving_variance": np.full(4, 5, np.float32),
}
VARIABLES = {
    **BACKBONE,
    "semantic_last_layer/kernel": np.arange(12, dtype=np.float32).reshape(1, 1, 4, 3),
    "semantic_last_layer/bias": np.zeros(3, np.float32),
    "encoder/_stem/_conv/kernel/.OPTIMIZER_SLOT/optimizer/m": np.zeros((3, 3, 3, 4), np.float32),
    "optimizer/iter": np.array(7, np.int64),
    "global_step": np.array(7, np.int64),
}


@pytest.mark.parametrize("path", ["ckpt-1", "ckpt-1.index", ""])
def test_deeplab2s_checkpoints_load_by_prefix_index_and_folder(tmp_path, path):
    write_checkpoint(tmp_path, VARIABLES)
    model = TinyModel()
    DeepLab2Checkpointer(model).load(str(tmp_path / path))
    weight = model.backbone["stem"]["conv"].weight
    assert weight[1, 2, 0, 0] == VARIABLES["encoder/_stem/_conv/kernel"][0, 0, 2, 1]
    assert model.backbone["stem"]["batch_norm"].running_var.tolist() == [5.0] * 4
    last = model.head["semantic_head"]["final_conv"].weight
    assert last[:, :, 0, 0].tolist() == VARIABLES["semantic_last_layer/kernel"][0, 0].T.tolist()


def test_imagenet_weights_initialise_the_backbone_alone(tmp_path):
    write_checkpoint(tmp_path, BACKBONE)
    model = TinyModel()
    before = model.head["semantic_head"]["final_conv"].weight.clone()
    DeepLab2Checkpointer(model).load(str(tmp_path))
    assert model.backbone["stem"]["batch_norm"].weight.tolist() == [2.0] * 4
    assert torch.equal(model.head["semantic_head"]["final_conv"].weight, before)


@pytest.mark.parametrize("name", ["block1_transformer", "stage5_extra", "memory_feature"])
def test_imagenet_weights_need_not_have_what_is_new_to_the_task(tmp_path, name):
    write_checkpoint(tmp_path, BACKBONE)
    model = TinyModel()
    model.backbone[name] = nn.Conv2d(4, 4, 1)
    DeepLab2Checkpointer(model).load(str(tmp_path))
    assert model.backbone["stem"]["batch_norm"].weight.tolist() == [2.0] * 4


def test_imagenet_weights_of_another_backbone_are_refused(tmp_path):
    write_checkpoint(tmp_path, BACKBONE)
    model = TinyModel()
    model.backbone["stage5"] = nn.Conv2d(4, 4, 1)
    with pytest.raises(ValueError, match="backbone.stage5.weight"):
        DeepLab2Checkpointer(model).load(str(tmp_path))


def test_what_is_new_to_the_task_learns_at_the_full_rate():
    assert NEW_BACKBONE_WORDS == FULL_RATE_WORDS


def test_weights_that_do_not_fit_are_refused_with_a_table(tmp_path):
    variables = {**VARIABLES, "encoder/_stem/_other/kernel": np.zeros((1, 1, 2, 2), np.float32)}
    del variables["semantic_last_layer/bias"]
    write_checkpoint(tmp_path, variables)
    model = TinyModel(num_classes=5)
    with pytest.raises(ValueError, match="PARTIAL_WEIGHTS True") as error:
        DeepLab2Checkpointer(model).load(str(tmp_path))
    lines = [line.split() for line in str(error.value).splitlines()]
    assert ["unused", "backbone.stem.other.weight"] in lines
    assert ["missing", "head.semantic_head.final_conv.bias"] in lines
    assert "(3, 4, 1, 1)  (5, 4, 1, 1)" in str(error.value)


def test_the_rest_is_loaded_on_request(tmp_path):
    write_checkpoint(tmp_path, VARIABLES)
    model = TinyModel(num_classes=5)
    DeepLab2Checkpointer(model, allow_partial=True).load(str(tmp_path))
    assert model.backbone["stem"]["batch_norm"].weight.tolist() == [2.0] * 4


def test_own_checkpoints_come_back_with_what_else_was_saved(tmp_path):
    model, optimizer = TinyModel(), None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    checkpointer = DeepLab2Checkpointer(model, str(tmp_path), optimizer=optimizer)
    checkpointer.save("model_0000004", iteration=4)
    other = TinyModel()
    other_optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    resumed = DeepLab2Checkpointer(other, str(tmp_path), optimizer=other_optimizer)
    assert resumed.has_checkpoint()
    assert resumed.resume_or_load("", resume=True)["iteration"] == 4
    assert other_optimizer.param_groups[0]["lr"] == 0.5
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "last_checkpoint",
        "model_0000004.pth",
    ]


def test_a_full_disk_loses_nothing_that_was_whole(tmp_path, monkeypatch):
    model = TinyModel()
    checkpointer = DeepLab2Checkpointer(model, str(tmp_path))
    checkpointer.save("model_final", iteration=1)
    before = (tmp_path / "model_final.pth").read_bytes()

    def full_disk(data, path):
        with open(path, "wb") as file:
            file.write(b"PK\x03\x04 half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        checkpointer.save("model_final", iteration=2)
    assert (tmp_path / "model_final.pth").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "last_checkpoint",
        "model_final.pth",
    ]


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_checkpoint_cut_short_is_named_and_the_newest_whole_one_offered(tmp_path, kept):
    checkpointer = DeepLab2Checkpointer(TinyModel(), str(tmp_path))
    checkpointer.save("model_0000001")
    checkpointer.save("model_0000002")
    last = tmp_path / "model_0000002.pth"
    data = last.read_bytes()
    last.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CheckpointFormatError) as error:
        checkpointer.resume_or_load("", resume=True)
    assert str(last) in str(error.value)
    assert f"the newest whole one is {tmp_path / 'model_0000001.pth'}" in str(error.value)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere.pth: no such checkpoint"):
        DeepLab2Checkpointer(TinyModel()).load("nowhere.pth")


def test_weights_of_a_model_inside_a_wrapper_fit(tmp_path):
    state = {f"module.{name}": value for name, value in TinyModel().state_dict().items()}
    torch.save({"model": state}, tmp_path / "wrapped.pth")
    DeepLab2Checkpointer(TinyModel()).load(str(tmp_path / "wrapped.pth"))
