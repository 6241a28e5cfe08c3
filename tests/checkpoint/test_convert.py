import numpy as np
import pytest
import torch
from bundle_writer import write_checkpoint
from test_checkpointer import BACKBONE, VARIABLES, TinyModel

from deeplab2_d2.checkpoint.__main__ import main
from deeplab2_d2.checkpoint.convert import Changes, convert, parse_class_map
from deeplab2_d2.checkpoint.surgery import drop_last_layers, inflate_stem, remap_classes
from deeplab2_d2.checkpoint.weights_file import read_weights

STEM = "backbone.stem.conv.weight"
LAST = "head.semantic_head.final_conv.weight"


@pytest.fixture
def source(tmp_path):
    return str(write_checkpoint(tmp_path / "source", VARIABLES))


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_both_formats_hold_the_same_weights(tmp_path, source, ending):
    target = str(tmp_path / f"out{ending}")
    report = convert(source, target)
    assert len(report.used) == 8 and not report.unused
    weights, _ = read_weights(target)
    assert (
        weights[STEM].tolist()
        == BACKBONE["encoder/_stem/_conv/kernel"].transpose(3, 2, 0, 1).tolist()
    )
    assert not any("OPTIMIZER" in name or "step" in name for name in weights)


def test_detectron2s_own_checkpointer_loads_the_result(tmp_path, source):
    from detectron2.checkpoint import DetectionCheckpointer

    target = str(tmp_path / "out.pth")
    convert(source, target)
    model = TinyModel()
    DetectionCheckpointer(model).load(target)
    assert model.backbone["stem"]["batch_norm"].weight.tolist() == [2.0] * 4


def test_a_model_that_does_not_fit_is_refused_and_nothing_written(tmp_path, source):
    target = tmp_path / "out.pth"
    with pytest.raises(ValueError, match="does not fit the model"):
        convert(source, str(target), model=TinyModel(num_classes=4))
    assert not target.exists()
    report = convert(source, str(target), model=TinyModel(num_classes=4), allow_partial=True)
    assert set(report.mismatched) == {LAST, "head.semantic_head.final_conv.bias"}
    assert LAST not in read_weights(str(target))[0]


def test_an_unknown_ending_is_refused(tmp_path, source):
    with pytest.raises(ValueError, match=r"end in .pth or .safetensors, got .*\.npz"):
        convert(source, str(tmp_path / "out.npz"))


def test_dropped_layers_are_those_of_the_task_alone():
    weights = {
        name: torch.zeros(1)
        for name in (
            "backbone.stem.conv.weight",
            "head.semantic_head.conv1_bn_act.depthwise.depthwise_conv.weight",
            "head.semantic_head.final_conv.weight",
            "head.center_head.final_conv.bias",
            "head.offset_head.final_conv.weight",
        )
    }
    names = list(weights)
    assert list(drop_last_layers(weights, ["semantic"])) == names[:2] + names[3:]
    assert list(drop_last_layers(weights, ["semantic", "instance"])) == names[:2]
    with pytest.raises(ValueError, match="got 'depth'"):
        drop_last_layers(weights, ["depth"])


def test_an_inflated_stem_sees_the_image_and_nothing_else_yet():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 4, 3)
    wide = inflate_stem({STEM: conv.weight.data}, 7)[STEM]
    video = torch.randn(2, 7, 9, 9)
    expected = torch.nn.functional.conv2d(video[:, :3], conv.weight)
    assert torch.allclose(torch.nn.functional.conv2d(video, wide), expected, atol=1e-6)
    with pytest.raises(ValueError, match="at least 7, got 3"):
        inflate_stem({STEM: wide}, 3)
    with pytest.raises(ValueError, match="got none of them"):
        inflate_stem({}, 7)


def test_classes_continue_where_they_are_mapped_and_else_start_at_the_mean():
    weights = {LAST: torch.arange(12.0).reshape(3, 4, 1, 1)}
    new = remap_classes(weights, [2, -1, 0, 2])[LAST]
    assert new[:, 0, 0, 0].tolist() == [8.0, 4.0, 0.0, 8.0]  # mean of 0, 4, 8
    with pytest.raises(ValueError, match="classes below 3, got \\[3\\]"):
        remap_classes(weights, [0, 3])


def test_coco133_leaves_out_void():
    assert parse_class_map("coco133") == list(range(1, 134))
    assert parse_class_map("3,-1") == [3, -1]
    with pytest.raises(ValueError, match="whole numbers, got a,b"):
        parse_class_map("a,b")


def test_changes_are_made_together(tmp_path, source):
    target = str(tmp_path / "out.pth")
    convert(source, target, changes=Changes(("instance",), 7, [1, 1]))
    weights, _ = read_weights(target)
    assert weights[STEM].shape == (4, 7, 3, 3) and weights[LAST].shape == (2, 4, 1, 1)


def test_the_commands(tmp_path, source, capsys):
    target = str(tmp_path / "out.safetensors")
    assert main(["convert", source, target]) == 0
    assert main(["inspect", source, "--verify"]) == 0
    said = capsys.readouterr().out
    # A slot, the optimizer's and the global step, and the save counter.
    assert "8 weights, 4 other tensors\n12 checksums are right" in said
    assert "backbone.stem.batch_norm.running_mean" in said
    assert main(["compare", source, target]) == 0
    assert "8 equal, 0 different" in capsys.readouterr().out
    changed = dict(VARIABLES)
    changed["semantic_last_layer/bias"] = np.array([0, 0.5, 0], np.float32)
    other = str(write_checkpoint(tmp_path / "other", changed))
    assert main(["compare", source, other]) == 1
    assert "values differ  0.5" in capsys.readouterr().out
    assert main(["compare", source, other, "--tolerance", "0.6"]) == 0
    assert main(["inspect", str(tmp_path / "nothing")]) == 2
    assert "no such checkpoint" in capsys.readouterr().err


def test_a_folder_with_several_checkpoints_asks_for_one(tmp_path, capsys):
    write_checkpoint(tmp_path, BACKBONE, "ckpt-1")
    write_checkpoint(tmp_path, BACKBONE, "ckpt-2")
    assert main(["inspect", str(tmp_path)]) == 0  # its state file names the latest
    (tmp_path / "checkpoint").unlink()
    assert main(["inspect", str(tmp_path)]) == 2
    assert "several checkpoints (ckpt-1, ckpt-2)" in capsys.readouterr().err
