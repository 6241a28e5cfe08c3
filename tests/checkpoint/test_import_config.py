import gzip
import json
import re
from pathlib import Path

import pytest
import yaml
from detectron2.config import get_cfg

from deeplab2_d2.checkpoint import config_from_options, import_options
from deeplab2_d2.checkpoint.import_config import main, to_yaml
from deeplab2_d2.config import add_deeplab2_config

PARITY = Path(__file__).parents[2] / ".." / "shared" / "parity"

TEXT = """
model_options {
  initial_checkpoint: "${INIT}"
  backbone { name: "resnet50_beta" output_stride: 16 }
  decoder { feature_key: "res5" atrous_rates: 6 atrous_rates: 12 atrous_rates: 18 }
  panoptic_deeplab {
    low_level { feature_key: "res2" channels_project: 48 }
    instance { enable: false }
    semantic_head { output_channels: 7 head_channels: 64 }
  }
}
trainer_options { solver_options { base_learning_rate: 1e-4 } steps_per_loop: 100 }
train_dataset_options { dataset: "coco_panoptic" crop_size: [65, 97] }
"""


def load(path):
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.merge_from_file(str(path))
    return cfg


def test_the_yaml_is_the_config_and_the_rest_is_named(tmp_path, capsys):
    source = tmp_path / "my.textproto"
    source.write_text(TEXT)
    assert main([str(source), "--output", str(tmp_path / "out.yaml")]) == 0
    cfg = load(tmp_path / "out.yaml")
    assert cfg.MODEL.DEEPLAB2.BACKBONE.NAME == "resnet50_beta"
    assert cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER.LOW_LEVEL[0][0] == "res2"
    assert cfg.MODEL.DEEPLAB2.INSTANCE_ENABLED is False
    assert cfg.INPUT.CROP.SIZE == [65, 97]
    assert cfg.DATASETS.TRAIN == ("coco_2017_train_panoptic",)
    named = capsys.readouterr().err
    assert "trainer_options.steps_per_loop" in named
    assert "model_options.initial_checkpoint" in (tmp_path / "out.yaml").read_text()


def test_json_is_read_as_well(tmp_path, capsys):
    source = tmp_path / "my.json"
    source.write_text(json.dumps({"evaluator_options": {"nms_kernel": 7}}))
    assert main([str(source)]) == 0
    tree = yaml.safe_load(capsys.readouterr().out)
    assert tree["MODEL"]["DEEPLAB2"]["POSTPROCESSING"]["NMS_KERNEL"] == 7


@pytest.mark.parametrize(
    "text, culprit",
    [
        (
            TEXT.replace("decoder {", "decodr {"),
            'my.textproto:5:3: Message type "ModelOptions" has no field named "decodr"',
        ),
        ('{"model_options": }', "my.textproto:1:19: "),
        ('{"model_option": {}}', "model_option: DeepLab2's ExperimentOptions has no such field"),
        ('{"model_options":' * 100_000, "1:1: messages are nested too deeply"),
        (
            '{"trainer_options": {"solver_options": {"base_learning_rate": 1%s}}}' % ("0" * 400),
            "trainer_options.solver_options.base_learning_rate must fit into a float",
        ),
    ],
)
def test_a_malformed_file_ends_with_its_place(tmp_path, capsys, monkeypatch, text, culprit):
    monkeypatch.chdir(tmp_path)
    Path("my.textproto").write_text(text)
    assert main(["my.textproto"]) == 2
    assert culprit in capsys.readouterr().err


def test_placeholders_are_set_from_the_command_line(tmp_path, capsys):
    source = tmp_path / "my.textproto"
    source.write_text("trainer_options { solver_options { warmup_steps: ${WARMUP} } }")
    assert main([str(source)]) == 2
    assert main([str(source), "--set", "WARMUP=77"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["SOLVER"]["WARMUP_ITERS"] == 77


@pytest.mark.skipif(not PARITY.is_dir(), reason=f"no reference data at {PARITY}")
def test_yaml_of_every_released_configuration_gives_the_same_config(tmp_path):
    with gzip.open(PARITY / "manifest.jsonl.gz") as lines:
        for line in lines:
            row = json.loads(line)
            (tmp_path / "out.yaml").write_text(
                to_yaml(import_options(row["options"]), row["config"])
            )
            assert load(tmp_path / "out.yaml") == config_from_options(row["options"])


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"model_options":' * 100000, r"a.json:1:1: messages are nested too deeply"),
        (
            '{"trainer_options":{"solver_options":{"base_learning_rate":1' + "0" * 400 + "}}}",
            "base_learning_rate must fit into a float",
        ),
    ],
    ids=["levels", "digits"],
)
def test_json_that_python_cannot_take_is_named(tmp_path, capsys, text, message):
    (tmp_path / "a.json").write_text(text)
    assert main([str(tmp_path / "a.json")]) == 2
    assert re.search(message, capsys.readouterr().err)
