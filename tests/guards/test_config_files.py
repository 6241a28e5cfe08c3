"""Every YAML file loads, names no unknown key, and says what its file name says."""

import re
from pathlib import Path

import pytest
import yaml
from detectron2.config import get_cfg

from deeplab2_d2.config import add_deeplab2_config, validate_config
from deeplab2_d2.records import find_record

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
LEAVES = [path for path in FILES if not path.name.startswith("Base-")]


def name_of(path):
    return str(path.relative_to(CONFIGS))


def load(path):
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.merge_from_file(str(path))
    return cfg


class UniqueKeyLoader(yaml.SafeLoader):
    """Refuses what SafeLoader overlooks: a key that is set twice. `!!python` it refuses itself."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key is set twice in {keys}"
        return super().construct_mapping(node, deep)


def parse(path):
    return yaml.load(path.read_text(), Loader=UniqueKeyLoader) or {}


def bases(path):
    base = parse(path).get("_BASE_")
    return [] if base is None else [path.parent / base] + bases(path.parent / base)


def test_there_are_configs():
    assert LEAVES


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_file_loads_and_has_no_unknown_key(path):
    load(path)


@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_detectron2s_own_trainer_stops_unless_the_schedule_is_its_own(path):
    solver = load(path).SOLVER
    is_ours = solver.LR_SCHEDULER_NAME == "DeepLab2LRScheduler"
    # OANet's of the paper train as Detectron2's Panoptic FPN does.
    assert is_ours or (solver.DEEPLAB2.SCHEDULE, solver.DEEPLAB2.OPTIMIZER) == ("step", "sgd")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_file_stands_on_at_most_two_bases(path):
    assert len(bases(path)) <= 2
    assert all(base.name.startswith("Base-") for base in bases(path))


@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_leaf_passes_the_checks_of_values(path):
    validate_config(load(path))


@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_leaf_opens_with_what_it_reproduces_and_its_command(path):
    header = re.match(r"(#.*\n)+", path.read_text())
    assert header is not None, "the file must open with a comment"
    assert re.search(r"[Ee]xpected|no score", header.group())
    assert "train_net.py" in header.group()


@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_leaf_is_what_its_name_says(path):
    cfg, name = load(path), path.stem
    stride = re.search(r"_os(\d+)(_|$)", name)
    batch = re.search(r"_bs(\d+)(_|$)", name)
    crop = re.search(r"_crop_(\d+)_(\d+)(_|$)", name)
    schedule = re.search(r"_(poly|cosine|step)(_(\d+)(k?))?(_|$)", name)
    record = find_record(cfg)
    if record is not None and record.has_detectron2_input:
        crop = re.search(r"_short_(\d+)_long_(\d+)(_|$)", name)
    ending = "crop_<H>_<W>.yaml, where Detectron2 resizes short_<MIN_SIZE>_long_<MAX_SIZE>.yaml"
    assert stride and batch and crop, f"..._os<stride>_<schedule>_bs<N>_{ending}"
    assert cfg.MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE == int(stride.group(1))
    assert cfg.SOLVER.IMS_PER_BATCH == int(batch.group(1))
    sizes = tuple(cfg.INPUT.CROP.SIZE)
    if record is not None and record.has_detectron2_input:
        sizes = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    assert sizes == (int(crop.group(1)), int(crop.group(2)))
    if schedule:
        assert cfg.SOLVER.DEEPLAB2.SCHEDULE == schedule.group(1)
    if schedule and schedule.group(3):
        factor = 1000 if schedule.group(4) else 1
        assert cfg.SOLVER.MAX_ITER == int(schedule.group(3)) * factor


@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_leaf_trains_all_stages_of_our_backbones(path):
    # Detectron2's default freezes two, and DeepLab2 none. Networks of other libraries come with
    # weights, so that their leaves may freeze some.
    node = load(path).MODEL.BACKBONE
    is_ours = node.NAME.startswith("build_deeplab2_")
    is_ours = is_ours and not node.NAME.startswith(("build_deeplab2_timm", "build_deeplab2_torchv"))
    assert not is_ours or node.FREEZE_AT == 0
