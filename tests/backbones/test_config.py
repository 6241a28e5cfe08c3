"""What MODEL.DEEPLAB2.BACKBONE says reaches the network; what it cannot say is refused."""

from typing import Any, Dict, List

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec

from deeplab2_d2.backbones import EndpointBackbone, build_deeplab2_backbone
from deeplab2_d2.config import add_deeplab2_config, validate_config

_PREFIX = "MODEL.DEEPLAB2.BACKBONE."


def _config(**values: Any) -> CfgNode:
    """Keys below the backbone's node, with __ for a dot."""
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.INPUT.CROP.SIZE = [65, 97]
    cfg.MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE = 16
    options: List[Any] = []
    for key, value in values.items():
        family = "" if key == "NAME" or key.startswith("MOBILENET") else "RESIDUAL."
        options += [_PREFIX + family + key.replace("__", "."), value]
    cfg.merge_from_list(options)
    return cfg


def _build(**values: Any) -> EndpointBackbone:
    with torch.device("meta"):
        return build_deeplab2_backbone(_config(**values), ShapeSpec(channels=3))


def _shapes(backbone: EndpointBackbone) -> Dict[str, Any]:
    return {key: tuple(value.shape) for key, value in backbone.state_dict().items()}


def test_axial_attention_from_stride_16_and_its_stem_make_resnet50_max_deeplab_s() -> None:
    changed = _build(NAME="resnet50", STEM="inception", ATTENTION__AXIAL_BEYOND_STRIDE=16)
    assert _shapes(changed) == _shapes(_build(NAME="max_deeplab_s_backbone"))
    without = _build(NAME="max_deeplab_s_backbone", ATTENTION__AXIAL_BEYOND_STRIDE=-1)
    assert _shapes(without) == _shapes(_build(NAME="resnet50_beta"))


def test_axial_attention_of_a_wide_network_is_that_of_axial_swidernet() -> None:
    changed = _build(NAME="wide_resnet41", ATTENTION__AXIAL_BEYOND_STRIDE=16)
    assert _shapes(changed) == _shapes(_build(NAME="axial_swidernet"))


def test_decoder_stacks_and_attention_make_the_ablation_network_max_deeplab_l() -> None:
    changed = _build(
        NAME="max_deeplab_wide_resnet41",
        ATTENTION__AXIAL_BEYOND_STRIDE=16,
        DECODER=[1, 1, 3],
    )
    assert _shapes(changed) == _shapes(_build(NAME="max_deeplab_l"))


def test_global_attention_with_positions_of_the_crop() -> None:
    # The crop of 65 x 97 is 5 x 7 at stride 16. Stage 4 arrives there, and attends after its first
    # block; positions of rows are as long as the map is high.
    options: Dict[str, Any] = {"NAME": "resnet50", "ATTENTION__GLOBAL": [16, 1]}
    pixels = _shapes(_build(**options, ATTENTION__POSITION_ENCODING="2D"))
    rows = _shapes(_build(**options, ATTENTION__POSITION_ENCODING="1D"))
    prefix = "stage4.add_absolute_positional_encoding."
    assert pixels[prefix + "embeddings"] == (1, 1024, 5, 7)
    assert rows[prefix + "height_axis_embeddings"] == (1, 1024, 5, 1)
    assert "stage4.block1.attention.global_.qkv_kernel" not in pixels
    assert "stage4.block2.attention.global_.qkv_kernel" in pixels
    assert "stage5.block1.attention.global_.qkv_kernel" in pixels
    double = _shapes(_build(NAME="resnet50", ATTENTION__GLOBAL=[16, 2]))
    assert "stage5.block1.attention.global2.qkv_kernel" in double


@pytest.mark.parametrize(
    "term, table", [("query", "query_rpe"), ("key", "key_rpe"), ("value", "value_rpe")]
)
def test_each_position_encoding_can_be_left_out(term: str, table: str) -> None:
    whole = _shapes(_build(NAME="max_deeplab_s_backbone"))
    terms = [other for other in ("content", "query", "key", "value") if other != term]
    without = _shapes(_build(NAME="max_deeplab_s_backbone", ATTENTION__TERMS=terms))
    left_out = set(whole) - set(without)
    assert left_out and all(f".{table}." in name for name in left_out)


def test_attention_options_reach_every_layer() -> None:
    backbone = _build(
        NAME="max_deeplab_s_backbone",
        ATTENTION__TERMS=["query", "key", "value"],
        ATTENTION__SPAN=65,
        ATTENTION__ACTIVATION="sigmoid",
        ATTENTION__NUM_HEADS=4,
        ATTENTION__EXPANSIONS=[0.5, 1.0, 1.5],
    )
    attention = backbone.stage5.block1.attention.height_axis
    spec = attention.spec
    assert (spec.use_content, spec.span) == (False, 65)
    assert (spec.activation, spec.num_heads) == ("sigmoid", 4)
    # Width 512: queries and keys of 256, values of 512, and 768 before them.
    assert tuple(attention.qkv_kernel.shape) == (768, 2 * 256 + 512)


def test_activation_and_checkpointed_kinds_reach_every_block() -> None:
    backbone = _build(NAME="resnet50", ACTIVATION="swish", CHECKPOINTED_KINDS=["bottleneck"])
    assert backbone.stage3.block2.activation.name == "swish"
    assert backbone.stage3.block2.spec.use_checkpoint
    assert backbone.activation.name == "swish"
    assert not _build(NAME="resnet50").stage3.block2.spec.use_checkpoint
    memory = _build(NAME="max_deeplab_s", CHECKPOINTED_KINDS=["transformer"])
    assert memory.stage5.checkpoint_transformer and not memory.stage5.block1.spec.use_checkpoint


def test_reduced_last_block_halves_what_is_after_res4() -> None:
    whole, reduced = (
        _build(NAME="mobilenet_v3_large", MOBILENET_V3__REDUCED_LAST_BLOCK=value).output_shape()
        for value in (False, True)
    )
    assert (whole["res5"].channels, reduced["res5"].channels) == (960, 480)
    assert whole["res4"] == reduced["res4"]


def test_memory_options_reach_the_dual_path_layers() -> None:
    backbone = _build(
        NAME="max_deeplab_tiny",
        MEMORY__NUM_SLOTS=48,
        MEMORY__CHANNELS=[64, 40],
        MEMORY__BEYOND_STRIDE=16,
        MEMORY__EXPANSION=0.25,
        MEMORY__FEED_FORWARD_CHANNELS=0,
        MEMORY__NUM_HEADS=4,
        MEMORY__PATHS=[],
        MEMORY__ATTENTION_ACTIVATION="sigmoid",
    )
    shapes = _shapes(backbone)
    assert shapes["memory_feature"] == (1, 48, 64)
    assert backbone.return_memory() == (48, 40, 40)
    layer = backbone.stage4.block1_transformer  # Of stride 16, where its input has stride 8.
    assert layer.spec.width == 128 * 0.25 * 8 / 16
    assert not layer.has_feed_forward and not hasattr(layer, "pixel_attention")
    assert layer.spec.attention_activation == "sigmoid" and layer.spec.num_heads == 4
    assert not layer.memory_is_attended
    assert "stage3.block1_transformer.memory_conv3_bn.conv.weight" not in shapes


def test_fewer_slots_are_the_first_of_the_memory() -> None:
    backbone = _build(NAME="max_deeplab_s", MEMORY__NUM_SLOTS=100)
    # The memory of a checkpoint still fits.
    assert _shapes(backbone)["memory_feature"] == (1, 128, 256)
    assert backbone._initial_memory(2).shape == (2, 256, 100)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"ATTENTION__SPAN": 64}, "ATTENTION.SPAN must be 0, or odd, got 64"),
        ({"ATTENTION__ACTIVATION": "relu"}, "ATTENTION.ACTIVATION must be one of 'softmax'"),
        ({"ATTENTION__AXIAL_BEYOND_STRIDE": 12}, "AXIAL_BEYOND_STRIDE must be one of None, -1"),
        (
            {"ATTENTION__POSITION_ENCODING": "1D"},
            "POSITION_ENCODING must be 'none' where ATTENTION.GLOBAL",
        ),
        ({"ATTENTION__EXPANSIONS": [0.0, 1.0, 1.0]}, "EXPANSIONS must be None or three positive"),
        ({"CHECKPOINTED_KINDS": ["conv"]}, "CHECKPOINTED_KINDS must be a list of 'basic'"),
        ({"STEM": "conv5x5"}, "STEM must be one of None, 'conv7x7'"),
        ({"ACTIVATION": "prelu"}, "RESIDUAL.ACTIVATION must be one of"),
        ({"MEMORY__NUM_SLOTS": 0}, "MEMORY.NUM_SLOTS must be None or a whole number of at least 1"),
        ({"MEMORY__PATHS": ["m2m"]}, "PATHS must be a list of 'memory_to_memory'"),
        ({"MEMORY__NUM_SLOTS": 2000}, "MEMORY.NUM_SLOTS must be at most 1024, got 2000"),
        ({"MEMORY__BEYOND_STRIDE": 5}, "MEMORY.BEYOND_STRIDE must be one of None, 2"),
        ({"MEMORY__FEED_FORWARD_CHANNELS": -1}, "FEED_FORWARD_CHANNELS must be None or a whole"),
        ({"DECODER": [1, 1]}, "DECODER must be None or 3 whole numbers of at least 0"),
    ],
)
def test_bad_values_are_refused_by_key(values: Dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate_config(_config(**values))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"NAME": "resnet51"}, r"BACKBONE.NAME must be one of .* got 'resnet51'"),
        (
            {"NAME": "resnet50", "MEMORY__NUM_SLOTS": 8},
            "MEMORY.NUM_SLOTS has no effect on resnet50 and must be None, got 8",
        ),
        (
            {"NAME": "max_deeplab_s_backbone", "DECODER": [0, 1, 1]},
            "DECODER has no effect on max_deeplab_s_backbone and must be None",
        ),
        (
            {"NAME": "mobilenet_v3_small", "ATTENTION__AXIAL_BEYOND_STRIDE": 16},
            "ATTENTION.AXIAL_BEYOND_STRIDE must be None for mobilenet_v3_small",
        ),
        (
            {"NAME": "mobilenet_v3_small", "STEM_WIDTH_MULTIPLIER": 2.0},
            "STEM_WIDTH_MULTIPLIER must be 1.0 for mobilenet_v3_small",
        ),
        (
            {"NAME": "resnet50", "MOBILENET_V3__REDUCED_LAST_BLOCK": True},
            "REDUCED_LAST_BLOCK must be False for resnet50",
        ),
    ],
)
def test_options_of_another_backbone_are_refused(values: Dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _build(**values)
