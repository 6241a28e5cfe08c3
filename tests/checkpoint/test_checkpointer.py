import errno
import logging
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from bundle_writer import write_checkpoint
from torch import nn

from deeplab2_d2.checkpoint.checkpointer import DeepLab2Checkpointer
from deeplab2_d2.checkpoint.pickled_file import load_pkl
from deeplab2_d2.checkpoint.sorted_table import CheckpointFormatError
from deeplab2_d2.checkpoint.weights_file import read_weights


class _Backbone(nn.ModuleDict):
    new_parts = ("transformer", "extra", "memory_feature")


class TinyModel(nn.Module):
    """A backbone and a head whose names are those of converted variables."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.backbone = _Backbone({"stem": nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3)})})
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


def test_what_stays_random_is_named_in_a_warning(tmp_path, caplog):
    write_checkpoint(tmp_path, BACKBONE)
    checkpointer = DeepLab2Checkpointer(TinyModel(), str(tmp_path))
    checkpointer.load(str(tmp_path))
    head = "head.semantic_head.final_conv"
    assert checkpointer.unloaded == [f"{head}.weight", f"{head}.bias"]
    assert caplog.messages[-1].endswith("stay random: head.semantic_head (2)")
    checkpointer.load("")
    # Counters of batch norm are no weights.
    assert len(checkpointer.unloaded) == 8
    parts = "backbone.stem (6), head.semantic_head (2)"
    assert caplog.messages[-1].endswith(
        f"from scratch: these weights of the model stay random: {parts}"
    )
    caplog.clear()
    write_checkpoint(tmp_path, VARIABLES)
    checkpointer.load(str(tmp_path))
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert checkpointer.unloaded == [] and not warnings


def test_names_that_detectron2_guesses_are_told_from_those_that_stay_random(tmp_path):
    # A pickle of Detectron2's model zoo without heads.
    names = ("weight", "bias")
    weights = {
        f"stem.conv.{name}": np.ones(shape, np.float32)
        for name, shape in zip(names, ((4, 3, 3, 3), 4))
    }
    with open(tmp_path / "R-50.pkl", "wb") as file:
        pickle.dump({"model": weights, "__author__": "x", "matching_heuristics": True}, file)
    model = TinyModel()
    checkpointer = DeepLab2Checkpointer(model)
    checkpointer.load(str(tmp_path / "R-50.pkl"))
    assert model.backbone["stem"]["conv"].weight[0, 0, 0, 0] == 1
    norm, head = "backbone.stem.batch_norm.", "head.semantic_head.final_conv."
    statistics = ["weight", "bias", "running_mean", "running_var"]
    assert checkpointer.unloaded == [norm + n for n in statistics] + [head + n for n in names]


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

    def full_disk(data, file):
        file.write(b"PK\x03\x04 half")
        # PyTorch's writer hides the reason behind an error of its own.
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 832 vs 726")

    monkeypatch.setattr(torch, "save", full_disk)
    offer = "so that no checkpoint was written; the newest whole one is .*model_final.pth: "
    with pytest.raises(OSError, match=f"No space left on device, {offer}.*model_final.pth"):
        checkpointer.save("model_final", iteration=2)
    assert (tmp_path / "model_final.pth").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "last_checkpoint",
        "model_final.pth",
    ]


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_checkpoint_cut_short_is_named_and_the_newest_whole_one_offered(tmp_path, kept):
    checkpointer = DeepLab2Checkpointer(TinyModel(), str(tmp_path))
    checkpointer.save("model_0000001", iteration=1)
    checkpointer.save("model_0000002", iteration=2)
    last = tmp_path / "model_0000002.pth"
    data = last.read_bytes()
    last.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CheckpointFormatError) as error:
        checkpointer.resume_or_load("", resume=True)
    assert str(last) in str(error.value)
    assert f"the newest whole one is {tmp_path / 'model_0000001.pth'}" in str(error.value)


def flip_a_bit(path, values):
    """Change one bit of the values of a tensor in a file."""
    data = bytearray(path.read_bytes())
    data[data.index(values.numpy().tobytes()) + 5] ^= 0x40
    path.write_bytes(data)


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_flipped_bit_is_found(tmp_path, is_resumed):
    model = TinyModel()
    checkpointer = DeepLab2Checkpointer(model, str(tmp_path))
    checkpointer.save("model_0000001", iteration=1)
    checkpointer.save("model_0000002", iteration=2)
    last = tmp_path / "model_0000002.pth"
    flip_a_bit(last, model.backbone["stem"]["conv"].weight.detach())
    with pytest.raises(CheckpointFormatError, match="model_0000002.pth.*damaged.*model_0000001"):
        if is_resumed:
            checkpointer.resume_or_load("", resume=True)
        else:
            checkpointer.load(str(last))


def test_a_file_written_without_checksums_loads(tmp_path):
    model = TinyModel()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": model.state_dict()}, tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    other = TinyModel()
    DeepLab2Checkpointer(other).load(str(tmp_path / "w.pth"))
    weights = [m.backbone["stem"]["conv"].weight for m in (model, other)]
    assert torch.equal(*weights)


@pytest.mark.parametrize("tag", [None, b"", b"model_0000009.pth", b"\xff\xfe\x00"])
def test_without_a_usable_last_checkpoint_the_furthest_whole_one_is_resumed(tmp_path, tag, caplog):
    model = TinyModel()
    checkpointer = DeepLab2Checkpointer(model, str(tmp_path))
    for number in (1, 2, 3, 4):
        checkpointer.save(f"model_{number}", iteration=number)
        # Copied in another order.
        os.utime(tmp_path / f"model_{number}.pth", (9 - number, 9 - number))
    last = tmp_path / "model_4.pth"
    last.write_bytes(last.read_bytes()[:200])
    flip_a_bit(tmp_path / "model_3.pth", model.backbone["stem"]["conv"].weight.detach())
    # Weights of another model, which no training has saved here.
    torch.save({"model": {"weight": torch.zeros(3)}}, tmp_path / "pretrained.pth")
    (tmp_path / "last_checkpoint").unlink()
    if tag is not None:
        (tmp_path / "last_checkpoint").write_bytes(tag)
    rest = checkpointer.resume_or_load("", resume=True)
    assert rest["iteration"] == 2
    assert caplog.text.count("resuming from the newest whole checkpoint") == 1


def test_where_no_checkpoint_is_whole_nothing_begins_at_the_start(tmp_path):
    checkpointer = DeepLab2Checkpointer(TinyModel(), str(tmp_path))
    for number in (1, 2):
        checkpointer.save(f"model_{number}", iteration=number)
        path = tmp_path / f"model_{number}.pth"
        path.write_bytes(path.read_bytes()[:-100])
    (tmp_path / "last_checkpoint").unlink()
    with pytest.raises(CheckpointFormatError) as error:
        checkpointer.resume_or_load("", resume=True)
    assert f"{tmp_path / 'model_1.pth'}, byte" in str(error.value)
    assert f"no checkpoint of {tmp_path} is whole" in str(error.value)
    # Weights to start with are not looked for there.
    checkpointer.resume_or_load("", resume=False)


def test_a_folder_without_checkpoints_has_none_to_resume(tmp_path):
    (tmp_path / "non_finite_loss_iter3.pth").write_bytes(b"PK")
    assert not DeepLab2Checkpointer(TinyModel(), str(tmp_path)).has_checkpoint()
    assert not DeepLab2Checkpointer(TinyModel(), str(tmp_path / "none")).has_checkpoint()


@pytest.mark.parametrize("name", ["../model_0000001.pth", "{root}/model_0000001.pth"])
def test_last_checkpoint_names_a_file_of_its_folder(tmp_path, name):
    run = tmp_path / "run"
    checkpointer = DeepLab2Checkpointer(TinyModel(), str(run))
    run.mkdir()
    (run / "last_checkpoint").write_text(name.format(root=tmp_path))
    with pytest.raises(ValueError, match="must name a file of its own folder, got .*; remove it"):
        checkpointer.resume_or_load("", resume=True)
    checkpointer.tag_last_checkpoint("x")
    checkpointer.save("model_0000003", iteration=3)
    (run / "last_checkpoint").write_text(name.format(root=tmp_path))
    with pytest.raises(
        ValueError, match="; write 'model_0000003.pth', the newest whole checkpoint"
    ):
        checkpointer.resume_or_load("", resume=True)


def test_a_folder_in_the_place_of_last_checkpoint_makes_way(tmp_path, caplog):
    checkpointer = DeepLab2Checkpointer(TinyModel(), str(tmp_path))
    checkpointer.save("model_0000003", iteration=3)
    (tmp_path / "last_checkpoint").unlink()
    (tmp_path / "last_checkpoint" / "kept").mkdir(parents=True)
    assert checkpointer.resume_or_load("", resume=True)["iteration"] == 3
    checkpointer.save("model_0000004", iteration=4)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000004.pth"
    assert (tmp_path / "last_checkpoint.folder" / "kept").is_dir()
    assert "is a folder, and becomes" in caplog.text


def test_weights_are_held_against_a_model_without_memory_before_anything_is_loaded(tmp_path):
    torch.save({"model": TinyModel().state_dict()}, tmp_path / "fits.pth")
    torch.save({"model": {"weight": torch.zeros(3)}}, tmp_path / "others.pth")
    with torch.device("meta"):
        checkpointer = DeepLab2Checkpointer(TinyModel())
    checkpointer.check("")
    checkpointer.check(str(tmp_path / "fits.pth"))
    with pytest.raises(ValueError, match="do not fit the model .0 used, 1 unused"):
        checkpointer.check(str(tmp_path / "others.pth"))
    with pytest.raises(FileNotFoundError, match="nothing.pth: no such checkpoint"):
        checkpointer.check(str(tmp_path / "nothing.pth"))


class RunsCode:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("ending", [".pth", ".pkl", ".pyth", ".pt", ".PKL", ""])
def test_no_code_of_a_file_runs(tmp_path, ending, monkeypatch):
    # As before PyTorch 2.6, where a call that says nothing trusts the file.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, content = tmp_path / f"w{ending}", {"model": {"a": RunsCode(tmp_path / "ran")}}
    if ending == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    for load in (DeepLab2Checkpointer(TinyModel()).load, read_weights):
        with pytest.raises(CheckpointFormatError, match=f"w{ending}"):
            load(str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("ending", [".pth", ".pkl"])
@pytest.mark.parametrize(
    "content, got",
    [
        ([torch.zeros(2)], "got a list"),
        ({3: torch.zeros(2)}, "got the key 3"),
        ({"model": [1]}, "got a list"),
        ({"model": {None: 1}}, "got the key None"),
    ],
)
def test_what_has_no_names_is_no_checkpoint(tmp_path, ending, content, got):
    path = tmp_path / f"w{ending}"
    if ending == ".pth":
        torch.save(content, path)
    else:
        arrays = [content] if isinstance(content, list) else content
        path.write_bytes(pickle.dumps(_without_tensors(arrays)))
    for load in (DeepLab2Checkpointer(TinyModel()).load, read_weights):
        with pytest.raises(CheckpointFormatError, match=f"w{ending}.*{got}"):
            load(str(path))


def _without_tensors(content):
    if isinstance(content, list):
        return [1]
    return {k: 1 if isinstance(v, torch.Tensor) else v for k, v in content.items()}


@pytest.mark.parametrize("attribute", ["external_attr", "flag_bits", "compress_type"])
def test_archives_that_readers_take_differently_are_damaged(tmp_path, attribute):
    """A member that is said to be a folder, encrypted, or compressed in an unknown way."""
    path = tmp_path / "w.pth"
    torch.save({"model": TinyModel().state_dict()}, path)
    with zipfile.ZipFile(path) as archive:
        member = next(m for m in archive.infolist() if m.filename.endswith("/data/0"))
    data = bytearray(path.read_bytes())
    entry = data.rindex(member.filename.encode()) - 46  # In the directory at the end.
    offset, value = {"external_attr": (38, 0x10), "flag_bits": (8, 1), "compress_type": (10, 77)}[
        attribute
    ]
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + offset] = value
    path.write_bytes(data)
    with pytest.raises(CheckpointFormatError, match="w.pth"):
        DeepLab2Checkpointer(TinyModel()).load(str(path))


def test_pickles_of_detectron2s_model_zoo_load(tmp_path):
    model = TinyModel()
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "someone"}))
    other = TinyModel()
    DeepLab2Checkpointer(other).load(str(path))
    assert all(torch.equal(value, model.state_dict()[n]) for n, value in other.state_dict().items())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_every_kind_come_back_from_a_pickle(tmp_path, protocol):
    arrays = {
        "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        "other end first": np.arange(3, dtype=">f8"),
        "none": np.zeros((0, 4), np.float16),
        "one": np.float64(2.5),
        "flags": np.array([True, False]),
    }
    content = {"model": {**arrays, "list": [arrays["matrix"]]}, "__author__": "someone"}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content, protocol))
    loaded = load_pkl(str(tmp_path / "w.pkl"))["model"]
    assert np.array_equal(loaded["list"][0], arrays["matrix"])
    for name, array in arrays.items():
        assert np.array_equal(loaded[name], array) and loaded[name].shape == array.shape, name
        assert loaded[name].dtype == array.dtype.newbyteorder("="), name


def test_pickles_of_python_2_load(tmp_path):
    # pickle.dumps({"a": numpy.array([1, 2], "int16")}, 2) of Python 2: bytes are its text.
    path = tmp_path / "w.pkl"
    path.write_bytes(
        b"\x80\x02}q\x01U\x01acnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b"
        b"\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x04\x01\x00\x02\x00tbs."
    )
    assert load_pkl(str(path))["a"].tolist() == [1, 2]


@pytest.mark.parametrize("array", [np.array([{}]), np.zeros(2, "f4,i4"), np.array(["a"])])
def test_arrays_of_other_things_than_numbers_are_refused(tmp_path, array):
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"a": array}))
    with pytest.raises(CheckpointFormatError, match="w.pkl.*arrays alone, got an array"):
        load_pkl(str(path))


def test_checkpoints_of_pycls_load(tmp_path):
    model = TinyModel()
    torch.save({"model_state": model.state_dict()}, tmp_path / "w.pyth")
    other = TinyModel()
    DeepLab2Checkpointer(other).load(str(tmp_path / "w.pyth"))
    assert all(torch.equal(value, model.state_dict()[n]) for n, value in other.state_dict().items())


def test_weights_that_are_cut_while_they_are_in_use_stay(tmp_path):
    from safetensors.torch import save_file

    values = torch.arange(100_000.0)
    save_file({"a": values}, tmp_path / "w.safetensors")
    weights, _ = read_weights(str(tmp_path / "w.safetensors"))
    os.truncate(tmp_path / "w.safetensors", 0)  # Of a mapped file, the process would die.
    assert torch.equal(weights["a"], values)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere.pth: no such checkpoint"):
        DeepLab2Checkpointer(TinyModel()).load("nowhere.pth")


def test_weights_of_a_model_inside_a_wrapper_fit(tmp_path):
    state = {f"module.{name}": value for name, value in TinyModel().state_dict().items()}
    torch.save({"model": state}, tmp_path / "wrapped.pth")
    DeepLab2Checkpointer(TinyModel()).load(str(tmp_path / "wrapped.pth"))
