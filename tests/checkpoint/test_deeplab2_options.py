import gzip
import json
from pathlib import Path

import pytest

from deeplab2_d2.checkpoint import config_from_options, import_options
from deeplab2_d2.checkpoint.option_rules import OptionRules
from deeplab2_d2.checkpoint.option_view import ConfigBuilder, Options
from deeplab2_d2.checkpoint.run_option_rules import read_solver

PARITY = Path(__file__).parents[2] / ".." / "shared" / "parity"

HEAD = {"output_channels": 19, "head_channels": 256}
MODEL = {
    "backbone": {"name": "resnet50_beta", "output_stride": 16},
    "decoder": {"feature_key": "res5", "aspp_channels": 192, "atrous_rates": [6, 12, 18]},
    "panoptic_deeplab": {
        "low_level": [
            {"feature_key": "res3", "channels_project": 64},
            {"feature_key": "res2", "channels_project": 32},
        ],
        "instance": {
            "instance_decoder_override": {"feature_key": "res5", "atrous_rates": [2, 4, 6]},
            "center_head": {"output_channels": 1, "head_channels": 32},
            "regression_head": {"output_channels": 2, "head_channels": 48},
        },
        "semantic_head": HEAD,
    },
}


def with_instance(**instance):
    panoptic = dict(MODEL["panoptic_deeplab"])
    panoptic["instance"] = {**panoptic["instance"], **instance}
    return {"model_options": {**MODEL, "panoptic_deeplab": panoptic}}


def test_model_options_become_keys_and_silence_becomes_deeplab2s_defaults():
    cfg = config_from_options({"model_options": MODEL})
    node = cfg.MODEL.DEEPLAB2
    assert cfg.MODEL.META_ARCHITECTURE == "DeepLab2PanopticDeepLab"
    assert (node.BACKBONE.NAME, node.BACKBONE.OUTPUT_STRIDE) == ("resnet50_beta", 16)
    assert node.SEMANTIC_DECODER.ASPP_CHANNELS == 192
    assert node.SEMANTIC_DECODER.CHANNELS == 256  # proto default
    assert node.OFFSET_HEAD.CHANNELS == 48
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 19
    assert cfg.INPUT.FORMAT == "RGB"


def test_instance_override_falls_back_to_proto_defaults_not_to_the_semantic_decoder():
    node = config_from_options({"model_options": MODEL}).MODEL.DEEPLAB2.INSTANCE_DECODER
    assert node.ASPP_CHANNELS == 256  # not the semantic decoder's 192, nor our default of CHANNELS
    assert node.CHANNELS == 256
    assert node.ATROUS_RATES == [2, 4, 6]


def test_without_override_the_instance_decoder_is_the_semantic_one():
    instance = {
        key: value
        for key, value in MODEL["panoptic_deeplab"]["instance"].items()
        if key != "instance_decoder_override"
    }
    panoptic = {**MODEL["panoptic_deeplab"], "instance": instance}
    options = {"model_options": {**MODEL, "panoptic_deeplab": panoptic}}
    node = config_from_options(options).MODEL.DEEPLAB2.INSTANCE_DECODER
    # The released rates are those of the stride.
    assert (node.ASPP_CHANNELS, node.ATROUS_RATES) == (192, [])
    assert [channels for _, channels in node.LOW_LEVEL] == [64, 32]


def test_solver_momentum_decay_and_clipping_change_convention():
    solver = {"batchnorm_momentum": 0.9, "weight_decay": 1e-4, "use_gradient_clipping": True}
    cfg = config_from_options({"trainer_options": {"solver_options": solver}})
    assert cfg.MODEL.DEEPLAB2.NORM.MOMENTUM == 0.1
    assert cfg.SOLVER.WEIGHT_DECAY == 1e-4
    assert cfg.SOLVER.CLIP_GRADIENTS.ENABLED and cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE == 10.0
    silent = config_from_options({"trainer_options": {"solver_options": {}}})
    assert not silent.SOLVER.CLIP_GRADIENTS.ENABLED
    assert (silent.SOLVER.BASE_LR, silent.SOLVER.MAX_ITER) == (1e-3, 60000)


def test_a_model_may_decay_twice_as_much():
    builder, solver = ConfigBuilder(), Options("SolverOptions", {"weight_decay": 1e-4})
    read_solver(builder, solver, OptionRules(lambda *_: None, weight_decay_factor=2.0))
    assert builder.values["SOLVER.WEIGHT_DECAY"] == 2e-4


VIDEO = {"output_channels": 2, "head_channels": 48}


def test_motion_deeplab_has_a_head_more_and_seven_channels():
    options = {**MODEL, "motion_deeplab": {**MODEL["panoptic_deeplab"], "motion_head": VIDEO}}
    del options["panoptic_deeplab"]
    losses = {"motion_loss": {"name": "l1", "weight": 0.02, "top_k_percent": 0.5}}
    trainer = {"loss_options": losses, "solver_options": {"weight_decay": 1e-4}}
    imported = import_options({"model_options": options, "trainer_options": trainer})
    cfg = imported.to_config()
    assert not imported.unsupported and cfg.MODEL.META_ARCHITECTURE == "DeepLab2MotionDeepLab"
    assert cfg.MODEL.PIXEL_MEAN == [127.5] * 7 == cfg.MODEL.PIXEL_STD
    assert cfg.MODEL.DEEPLAB2.MOTION_HEAD.CHANNELS == 48
    assert cfg.MODEL.DEEPLAB2.LOSS.MOTION == [0.02, 0.5]
    # DeepLab2 does not halve it for this model.
    assert cfg.SOLVER.WEIGHT_DECAY == 2e-4


def test_vip_deeplab_has_two_heads_more():
    depth = {"output_channels": 1, "head_channels": 24, "max_value_after_activation": 40.0}
    instance = {**MODEL["panoptic_deeplab"]["instance"], "next_regression_head": VIDEO}
    heads = {**MODEL["panoptic_deeplab"], "instance": instance, "depth_head": depth}
    options = {**MODEL, "vip_deeplab": heads}
    del options["panoptic_deeplab"]
    losses = {"depth_loss": {"name": "depth_loss", "weight": 0.2}}
    imported = import_options(
        {"model_options": options, "trainer_options": {"loss_options": losses}}
    )
    node = imported.to_config().MODEL.DEEPLAB2
    assert not imported.unsupported
    assert (node.NEXT_OFFSET_HEAD.CHANNELS, node.DEPTH_HEAD.CHANNELS) == (48, 24)
    assert node.DEPTH_HEAD.RANGE == [0.0, 40.0] and node.LOSS.DEPTH_ERROR == 0.2
    # A loss that is not set is not computed.
    assert node.LOSS.NEXT_OFFSET[0] == 0.0
    heads["depth_head"] = {**depth, "output_channels": 2}
    with pytest.raises(ValueError, match="depth_head must be set, with output_channels 1"):
        import_options({"model_options": options})


def test_a_loss_that_is_not_set_is_not_computed():
    losses = {"semantic_loss": {"name": "softmax_cross_entropy", "top_k_percent": 0.15}}
    node = config_from_options({"trainer_options": {"loss_options": losses}}).MODEL.DEEPLAB2.LOSS
    assert node.SEMANTIC == [1.0, 0.15]
    assert (node.CENTER[0], node.OFFSET[0]) == (0.0, 0.0)


def test_small_instances_weigh_more_only_if_asked():
    dataset = {"small_instance_weight": 3.0, "crop_size": [65, 97]}
    cfg = config_from_options({"train_dataset_options": dataset})
    assert cfg.INPUT.DEEPLAB2.SMALL_INSTANCE_WEIGHT == 1.0
    dataset["increase_small_instance_weights"] = True
    cfg = config_from_options({"train_dataset_options": dataset})
    assert cfg.INPUT.DEEPLAB2.SMALL_INSTANCE_WEIGHT == 3.0
    assert (cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE) == ("absolute", [65, 97])


def test_deeplab2s_coco_models_have_a_channel_for_void():
    panoptic = {**MODEL["panoptic_deeplab"], "semantic_head": {**HEAD, "output_channels": 134}}
    options = {
        "model_options": {**MODEL, "panoptic_deeplab": panoptic},
        "train_dataset_options": {"dataset": "coco_panoptic"},
    }
    assert config_from_options(options).MODEL.DEEPLAB2.CLASS_MAP == "deeplab2_coco"
    options["train_dataset_options"] = {"dataset": "cityscapes_panoptic"}
    assert config_from_options(options).MODEL.DEEPLAB2.CLASS_MAP == "identity"


def test_flips_and_scales_become_test_time_augmentation():
    options = {"evaluator_options": {"add_flipped_images": True, "eval_scales": [0.75, 1.0]}}
    imported = import_options(options)
    cfg = imported.to_config()
    assert cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP
    assert cfg.TEST.DEEPLAB2.SCALES == [0.75, 1.0]
    assert not imported.unsupported
    cfg = config_from_options({"evaluator_options": {"eval_scales": [1.0]}})
    assert not cfg.TEST.AUG.ENABLED


def test_every_option_is_mapped_or_named():
    options = {
        **with_instance(next_regression_head={"output_channels": 2, "head_channels": 32}),
        "evaluator_options": {"nms_kernel": 13, "save_predictions": True},
    }
    imported = import_options(options)
    head = "model_options.panoptic_deeplab.instance.next_regression_head"
    assert set(imported.unsupported) == {
        f"{head}.output_channels",
        f"{head}.head_channels",
        "evaluator_options.save_predictions",
    }
    assert imported.mapped["evaluator_options.nms_kernel"] == [
        "MODEL.DEEPLAB2.POSTPROCESSING.NMS_KERNEL"
    ]
    first = "model_options.panoptic_deeplab.low_level[0].channels_project"
    assert imported.mapped[first] == [  # nothing overrides the low-level features here
        "MODEL.DEEPLAB2.SEMANTIC_DECODER.LOW_LEVEL",
        "MODEL.DEEPLAB2.INSTANCE_DECODER.LOW_LEVEL",
    ]


def test_a_model_with_mask_slots_has_no_centers():
    model = {key: value for key, value in MODEL.items() if key != "panoptic_deeplab"}
    heads = {"pixel_space_head": HEAD, "auxiliary_semantic_head": HEAD}
    options = {
        "model_options": {**model, "max_deeplab": heads},
        "evaluator_options": {"nms_kernel": 41, "thing_area_limit": 256},
    }
    imported = import_options(options)
    name = "evaluator_options.nms_kernel"
    assert imported.unsupported == {name: "the meta-architecture has no such post-processing"}
    node = imported.to_config().MODEL.DEEPLAB2.POSTPROCESSING
    assert (node.NMS_KERNEL, node.THING_AREA_LIMIT) == (13, 256)


def test_kmax_deeplab_draws_pixels_for_one_loss_alone_and_says_so_of_the_other():
    model = {key: value for key, value in MODEL.items() if key != "panoptic_deeplab"}
    sampling = {"instance_discrimination_sample_k": 4096, "semantic_sample_k": 4096}
    sampling["instance_discrimination_sample_temperature"] = 1.5
    sampling["semantic_sample_temperature"] = 2.0
    heads = {"pixel_space_head": HEAD, "auxiliary_semantic_head": HEAD, **sampling}
    model["backbone"] = {"name": "kmax_resnet50", "output_stride": 32}
    imported = import_options({"model_options": {**model, "max_deeplab": heads}})
    cfg = imported.to_config()
    assert cfg.MODEL.META_ARCHITECTURE == "DeepLab2KMaXDeepLab"
    assert cfg.MODEL.DEEPLAB2.LOSS.INSTANCE_DISCRIMINATION_SAMPLING == [4096, 1.5]
    # DeepLab2's loss builder never reads these two.
    node, reason = "model_options.max_deeplab.", "has no effect in DeepLab2 either"
    assert imported.unsupported[node + "semantic_sample_k"] == reason
    assert imported.unsupported[node + "semantic_sample_temperature"] == reason
    assert node + "semantic_sample_k" not in imported.mapped


@pytest.mark.parametrize(
    "options, culprit",
    [
        ({"modle_options": {}}, "modle_options"),
        ({"trainer_options": {"solver_options": {"warmup_steps": "3"}}}, "solver_options.warmup"),
        ({"trainer_options": {"solver_options": {"warmup_steps": True}}}, "must be of type int"),
        ({"model_options": {"decoder": {"feature_key": "res5"}}}, "exactly one of"),
        ({"train_dataset_options": {"crop_size": [641]}}, "crop_size"),
        (with_instance(center_head={"output_channels": 3, "head_channels": 32}), "must be 1"),
    ],
)
def test_wrong_options_name_the_culprit(options, culprit):
    with pytest.raises(ValueError, match=culprit):
        import_options(options)


@pytest.mark.skipif(not PARITY.is_dir(), reason=f"no reference data at {PARITY}")
def test_all_released_configurations_are_read_and_no_option_is_forgotten():
    with gzip.open(PARITY / "manifest.jsonl.gz") as lines:
        rows = [json.loads(line) for line in lines]
    assert len(rows) == 60
    for row in rows:
        imported = import_options(row["options"])
        imported.to_config()
        assert "has no equivalent" not in imported.unsupported.values(), row["config"]
