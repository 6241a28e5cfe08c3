from pathlib import Path

import pytest
from config_reads import config_reads, is_read
from detectron2.config import get_cfg

from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.engine import ConfigError, load_config
from deeplab2_d2.engine.ignored_keys import (
    _has_effect,
    _leaves,
    _read_nodes,
    ignored_keys,
    warn_of_ignored_keys,
)

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
PACKAGE = ROOT / "projects" / "deeplab2_d2"
COCO = CONFIGS / "COCO-PanopticSegmentation"
LEAF = str(COCO / "panoptic_deeplab_R_50_os32_poly_200k_bs64_crop_641_641.yaml")
# The keys of mask slots are checked for a model that has them.
MASKS = ["MODEL.META_ARCHITECTURE", "DeepLab2MaXDeepLab"]


def test_defaults_touch_no_key_of_detectron2():
    cfg, plain = get_cfg(), get_cfg()
    add_deeplab2_config(cfg)
    for node in (cfg.MODEL, cfg.INPUT, cfg.SOLVER, cfg.TEST):
        del node["DEEPLAB2"]
    assert cfg == plain


def test_a_leaf_and_overrides_are_merged_in_this_order():
    cfg = load_config(LEAF, ["SOLVER.BASE_LR", "0.25"])
    assert cfg.SOLVER.BASE_LR == 0.25
    assert cfg.MODEL.DEEPLAB2.POSTPROCESSING.NMS_KERNEL == 41


def test_an_unknown_key_in_a_file_names_file_and_key(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(f"_BASE_: {LEAF}\nMODEL:\n  DEEPLAB2:\n    BACKBOEN: 1\n")
    with pytest.raises(ConfigError, match=r"wrong\.yaml.*MODEL\.DEEPLAB2\.BACKBOEN"):
        load_config(str(path))


def test_an_unknown_override_names_the_key():
    with pytest.raises(ConfigError, match="MODEL.DEEPLAB2.NO_SUCH"):
        load_config(LEAF, ["MODEL.DEEPLAB2.NO_SUCH", "1"])


def test_a_value_of_the_wrong_type_names_the_key():
    with pytest.raises(ConfigError, match="BASE_LR"):
        load_config(LEAF, ["SOLVER.BASE_LR", "fast"])


@pytest.mark.parametrize(
    "key, value, rule",
    [
        ("INPUT.CROP.SIZE", "[640, 641]", "1 \\+ a multiple of the output stride 32"),
        ("TEST.DEEPLAB2.PAD_TO", "[641, 640]", "1 \\+ a multiple"),
        ("MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE", "4", "one of 8, 16, 32"),
        ("MODEL.DEEPLAB2.SEMANTIC_DECODER.ATROUS_RATES", "[1, 2]", "three rates"),
        (
            "MODEL.DEEPLAB2.SEMANTIC_DECODER.LOW_LEVEL",
            "[64]",
            "pairs of a feature and its channels",
        ),
        ("MODEL.DEEPLAB2.SEMANTIC_DECODER.CONV_TYPE", "conv", "one of"),
        ("MODEL.DEEPLAB2.SEMANTIC_DECODER.ASPP_DROPOUT", "1.0", "at least 0 and below 1"),
        ("MODEL.DEEPLAB2.SEMANTIC_DECODER.FUSION", "[4, 1]", "an odd kernel size"),
        ("MODEL.DEEPLAB2.LOSS.SEMANTIC", "[1.0, 0.0]", "in \\(0, 1\\]"),
        ("MODEL.DEEPLAB2.LOSS.MASK_ID", "[1.0, 1.5]", "in \\(0, 1\\]"),
        ("MODEL.DEEPLAB2.LOSS.INSTANCE_DISCRIMINATION_TEMPERATURE", "0.0", "positive"),
        ("MODEL.DEEPLAB2.LOSS.INSTANCE_DISCRIMINATION_SAMPLING", "[0, -1.0]", "at least 0"),
        ("MODEL.DEEPLAB2.LOSS.PQ_STYLE_SIMILARITY", "iou", "one of 'product', 'sum'"),
        ("MODEL.DEEPLAB2.LOSS.UNMATCHED_WEIGHT", "zero", "one of 'void_ratio', 'one'"),
        ("MODEL.DEEPLAB2.POSTPROCESSING.MASK_MODE", "slotwise", "one of 'pixelwise'"),
        ("MODEL.DEEPLAB2.POSTPROCESSING.CONFIDENCE_THRESHOLDS", "[0.7, 40.0]", "in \\[0, 1\\]"),
        ("MODEL.DEEPLAB2.POSTPROCESSING.THING_AREA_LIMIT", "-1", "at least 0"),
        ("MODEL.DEEPLAB2.MAX_DEEPLAB.PIXEL_CHANNELS", "0", "at least 1"),
        ("INPUT.DEEPLAB2.MAX_THINGS", "0", "at least 1"),
        ("INPUT.DEEPLAB2.SCALES", "[3.0, 2.0, 0.1]", "a least scale"),
        ("SOLVER.DEEPLAB2.OPTIMIZER", "lion", "one of 'adam'"),
    ],
)
def test_a_value_that_cannot_work_names_key_rule_and_value(key, value, rule):
    with pytest.raises(ConfigError, match=rf"{key} must be .*{rule}.*got"):
        load_config(LEAF, [*MASKS, key, value])


def test_pasting_masks_needs_a_threshold_that_leaves_at_most_two_to_a_pixel():
    node = "MODEL.DEEPLAB2.POSTPROCESSING"
    overrides = [
        *MASKS,
        f"{node}.MASK_MODE",
        "maskwise",
        f"{node}.CONFIDENCE_THRESHOLDS",
        "[0.7, 0.3]",
    ]
    with pytest.raises(ConfigError, match="at least 0.334 where MASK_MODE.*got .0.7, 0.3."):
        load_config(LEAF, overrides)


def test_mask_slots_need_a_loss():
    # The semantic loss's weight is 1, but it has no head.
    overrides = ["MODEL.META_ARCHITECTURE", "DeepLab2MaXDeepLab"]
    overrides += ["MODEL.DEEPLAB2.MAX_DEEPLAB.AUXILIARY_SEMANTIC", "False"]
    for name in ("PQ_STYLE", "MASK_ID", "INSTANCE_DISCRIMINATION"):
        load_config(LEAF, overrides)
        overrides += [f"MODEL.DEEPLAB2.LOSS.{name}", "[0.0, 1.0]"]
    message = "PQ_STYLE must be of a positive weight where all.*got .0.0, 1.0."
    with pytest.raises(ConfigError, match=message):
        load_config(LEAF, overrides)


def test_a_key_of_detectron2_that_is_not_read_is_named_once_with_what_decides(caplog):
    warn_of_ignored_keys(load_config(LEAF))
    assert caplog.text == ""
    warn_of_ignored_keys(load_config(LEAF, ["SOLVER.GAMMA", "0.5"]))
    (record,) = caplog.records
    assert "SOLVER.GAMMA has no effect" in record.getMessage()
    assert "SOLVER.DEEPLAB2.SCHEDULE" in record.getMessage()
    # A model without a mapper of ours has Detectron2's, which reads its own sizes.
    caplog.clear()
    warn_of_ignored_keys(load_config("", ["INPUT.MIN_SIZE_TRAIN", "(64,)"]))
    assert caplog.text == ""


def test_keys_of_detectron2_that_a_models_mapper_and_the_schedule_of_steps_read_are_not_named(
    caplog,
):
    # The leaf sets INPUT.MIN_SIZE_TRAIN and SOLVER.STEPS; its sizes are not checked as a crop.
    leaf = str(COCO / "oanet_R_50_os32_step_100k_bs16_short_800_long_1333.yaml")
    warn_of_ignored_keys(
        load_config(leaf, ["SOLVER.GAMMA", "0.5", "INPUT.CROP.SIZE", "[0.5, 0.5]"])
    )
    assert caplog.text == ""
    warn_of_ignored_keys(load_config(leaf, ["SOLVER.DEEPLAB2.SCHEDULE", "poly"]))
    steps, factor = caplog.messages
    assert "SOLVER.STEPS has no effect" in steps
    assert "SOLVER.WARMUP_FACTOR has no effect" in factor


@pytest.mark.parametrize(
    "key, value, instead",
    [
        ("MODEL.RESNETS.DEPTH", "101", "MODEL.DEEPLAB2.BACKBONE"),
        ("MODEL.RESNETS.NORM", "GN", "MODEL.DEEPLAB2.BACKBONE"),
        ("MODEL.FPN.OUT_CHANNELS", "64", "docs/own_trainer.md"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", "3", "docs/own_trainer.md"),
        ("MODEL.SEM_SEG_HEAD.COMMON_STRIDE", "8", "docs/own_trainer.md"),
        ("INPUT.CROP.TYPE", "relative", "INPUT.CROP.SIZE"),
        ("INPUT.MASK_FORMAT", "bitmask", "docs/own_trainer.md"),
        ("DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False", "docs/own_trainer.md"),
        ("TEST.DETECTIONS_PER_IMAGE", "7", "docs/own_trainer.md"),
        ("SOLVER.WEIGHT_DECAY_NORM", "0.1", "docs/own_trainer.md"),
        ("SOLVER.MOMENTUM", "0.5", "SOLVER.DEEPLAB2.OPTIMIZER"),
        ("SOLVER.WARMUP_METHOD", "constant", "docs/own_trainer.md"),
    ],
)
def test_keys_of_detectron2_without_effect_are_named(caplog, key, value, instead):
    warn_of_ignored_keys(load_config(LEAF, [key, value]))
    (record,) = caplog.records
    assert f"{key} has no effect" in record.getMessage() and instead in record.getMessage()
    # Detectron2's own models read them, where it is not for the solver.
    if not key.startswith("SOLVER"):
        caplog.clear()
        warn_of_ignored_keys(load_config("", [key, value]))
        assert caplog.text == ""


def test_keys_with_an_effect_are_not_named(caplog):
    options = ["SOLVER.DEEPLAB2.OPTIMIZER", "sgd", "SOLVER.MOMENTUM", "0.5", "SEED", "3"]
    options += ["MODEL.BACKBONE.FREEZE_AT", "3", "TEST.AUG.FLIP", "False", "VIS_PERIOD", "7"]
    fpn = ["MODEL.BACKBONE.NAME", "build_deeplab2_fpn_backbone", "MODEL.FPN.OUT_CHANNELS", "64"]
    warn_of_ignored_keys(load_config(LEAF, options + fpn))
    # Detectron2's backbone under our heads reads its own keys.
    resnet = ["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.DEPTH", "101"]
    warn_of_ignored_keys(load_config(LEAF, resnet))
    assert caplog.text == ""
    # Ours under another model does not.
    ours = ["MODEL.BACKBONE.NAME", "build_deeplab2_backbone", "MODEL.RESNETS.DEPTH", "101"]
    assert ignored_keys(load_config("", ours)) == [("MODEL.RESNETS.DEPTH", 101)]


def test_that_training_images_are_always_cropped_is_said(caplog):
    warn_of_ignored_keys(load_config(LEAF, ["INPUT.CROP.ENABLED", "False"]))
    assert "INPUT.CROP.ENABLED has no effect" in caplog.text


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda path: path.stem)
def test_no_config_of_ours_sets_a_key_without_effect(path):
    if not path.stem.startswith("Base"):
        assert ignored_keys(load_config(str(path))) == []


def test_every_key_of_detectron2_that_our_sources_read_has_an_effect():
    exact, suffixes = set(), set()
    for path in PACKAGE.rglob("*.py"):
        # OANet is a model of Detectron2's kind; the loaders serve those, too.
        if path.parent.name != "oanet" and path.name not in ("loaders.py", "instance_mapper.py"):
            found = config_reads(path.read_text())
            exact |= found[0]
            suffixes |= found[1]
    options = ["SOLVER.DEEPLAB2.OPTIMIZER", "sgd", "SOLVER.DEEPLAB2.SCHEDULE", "step"]
    cfg = load_config(LEAF, [*options, "MODEL.BACKBONE.NAME", "build_deeplab2_fpn_backbone"])
    nodes = _read_nodes(cfg)
    read = {key for key, _ in _leaves(get_cfg()) if is_read(tuple(key.split(".")), exact, suffixes)}
    # Said by a warning of its own, and a name that many things have.
    read -= {"INPUT.CROP.ENABLED", "MODEL.SEM_SEG_HEAD.NAME"}
    # They decide on the evaluators of Detectron2's detectors.
    read -= {"MODEL.KEYPOINT_ON", "MODEL.MASK_ON"}
    assert len(read) > 30
    assert [key for key in sorted(read) if not _has_effect(key, nodes)] == []
