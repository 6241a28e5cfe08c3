"""Decoders and heads of Panoptic-DeepLab."""

from dataclasses import replace
from typing import Any, Dict

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec

from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.heads import DenseHeads
from deeplab2_d2.layers import ASPPPool, Norm
from deeplab2_d2.models.panoptic_deeplab import DeepLab2PanopticDeepLab, describe_heads

_SHAPES = {
    "res2": ShapeSpec(channels=6, stride=4),
    "res3": ShapeSpec(channels=8, stride=8),
    "res5": ShapeSpec(channels=12, stride=16),
}


def _config(**changes: Any) -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.INPUT.CROP.SIZE = [65, 97]
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 5
    for key, value in changes.items():
        cfg.merge_from_list([f"MODEL.DEEPLAB2.{key.replace('__', '.')}", value])
    return cfg


def _features(height: int, width: int) -> Dict[str, torch.Tensor]:
    return {
        name: torch.randn(
            2, shape.channels, (height - 1) // shape.stride + 1, (width - 1) // shape.stride + 1
        )
        for name, shape in _SHAPES.items()
    }


@pytest.mark.parametrize("size", [(65, 97), (33, 33), (200, 41)])
def test_any_size_is_predicted_at_stride_four(size: Any) -> None:
    head = DeepLab2PanopticDeepLab.build_head(_config(), _SHAPES).eval()
    with torch.no_grad():
        prediction = head(_features(*size))
    height, width = ((n - 1) // 4 + 1 for n in size)
    assert prediction["semantic_logits"].shape == (2, 5, height, width)
    assert prediction["center_heatmap"].shape == (2, 1, height, width)
    assert prediction["center_offsets"].shape == (2, 2, height, width)


def test_semantic_only_model_has_no_instance_parts() -> None:
    head = DeepLab2PanopticDeepLab.build_head(_config(INSTANCE_ENABLED=False), _SHAPES).eval()
    parts = {name.split(".")[0] for name, _ in head.named_parameters()}
    assert parts == {"semantic_decoder", "semantic_head"}
    assert set(head(_features(33, 33))) == {"semantic_logits"} == set(head.kinds)


def test_pooling_window_is_the_map_of_a_training_crop() -> None:
    tiled = DeepLab2PanopticDeepLab.build_head(_config(), _SHAPES).semantic_decoder
    assert tiled.aspp.aspp_pool.pool_size == (5, 7)  # 64 / 16 + 1, 96 / 16 + 1
    whole = DeepLab2PanopticDeepLab.build_head(_config(SEMANTIC_DECODER__ASPP="global"), _SHAPES)
    assert whole.semantic_decoder.aspp.aspp_pool.pool_size is None


def test_sliding_mean_is_that_of_its_window_and_fits_smaller_maps() -> None:
    pool = ASPPPool(1, 1, norm=Norm("BN"), pool_size=(2, 3))
    pool.conv_bn_act = torch.nn.Identity()
    features = torch.arange(12.0).view(1, 1, 3, 4)
    # Means of the 2 x 3 windows: (0+1+2+4+5+6)/6 = 3, then 4; 7, 8 one row below.
    expected = torch.nn.functional.interpolate(
        torch.tensor([[[[3.0, 4.0], [7.0, 8.0]]]]), (3, 4), mode="bilinear", align_corners=True
    )
    torch.testing.assert_close(pool(features), expected)
    small = torch.tensor([[[[1.0, 3.0]]]])
    assert pool(small).tolist() == [[[[2.0, 2.0]]]]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"SEMANTIC_DECODER__FEATURE": "res4"}, "decoder feature must be of"),
        ({"SEMANTIC_DECODER__LOW_LEVEL": [["res9", 8]]}, "must be of .*res9"),
        ({"SEMANTIC_DECODER__CONV_TYPE": "conv"}, "conv_type must be one of"),
        ({"SEMANTIC_DECODER__ASPP": "max"}, "ASPP must be one of .* got 'max'"),
        ({"SEMANTIC_DECODER__ATROUS_RATES": [6, 12]}, "atrous_rates must be three numbers"),
    ],
)
def test_options_that_make_no_decoder_are_named(changes: Dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepLab2PanopticDeepLab.build_head(_config(**changes), _SHAPES)


def test_relative_crop_cannot_size_the_window() -> None:
    cfg = _config()
    cfg.INPUT.CROP.SIZE = [0.9, 0.9]
    with pytest.raises(ValueError, match="INPUT.CROP.SIZE must be"):
        DeepLab2PanopticDeepLab.build_head(cfg, _SHAPES)


def _rows(cfg: CfgNode) -> Any:
    return describe_heads(cfg, _SHAPES)


def test_maps_come_in_the_order_of_the_heads_from_one_pass_of_each_decoder() -> None:
    decoders, heads = _rows(_config())
    # Heads of two decoders, in turn.
    order = [heads[1], heads[0], heads[2]]
    dense = DenseHeads(decoders, order, _SHAPES, norm=Norm("BN")).eval()
    names = ["center_heatmap", "semantic_logits", "center_offsets"]
    calls = []
    dense.instance_decoder.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        assert list(dense(_features(33, 33))) == names == list(dense.kinds)
    assert calls == [1]


def test_heads_that_do_not_fit_their_decoders_are_refused() -> None:
    decoders, heads = _rows(_config())
    with pytest.raises(ValueError, match="heads must read the decoders .*got .'semantic_decoder'"):
        DenseHeads(decoders, heads[:1], _SHAPES, norm=Norm("BN"))
    with pytest.raises(ValueError, match="heads must read the decoders"):
        DenseHeads({}, heads, _SHAPES, norm=Norm("BN"))
    with pytest.raises(ValueError, match="names of heads must differ"):
        DenseHeads(decoders, [*heads, heads[0]], _SHAPES, norm=Norm("BN"))


@pytest.mark.parametrize(
    "stride, rates", [(32, (3, 6, 9)), (16, (6, 12, 18)), (8, (12, 24, 36)), (128, (1, 1, 2))]
)
def test_rates_that_no_config_names_follow_from_the_stride(stride: int, rates: Any) -> None:
    # 96, 192 and 288 pixels of the input over the stride, at least one pixel of the map.
    shapes = {**_SHAPES, "res5": ShapeSpec(channels=12, stride=stride)}
    decoders, _ = describe_heads(_config(), shapes)
    assert decoders["semantic_decoder"].atrous_rates == rates
    named, _ = describe_heads(_config(SEMANTIC_DECODER__ATROUS_RATES=[1, 2, 4]), shapes)
    assert named["semantic_decoder"].atrous_rates == (1, 2, 4)


def _parts(head: DenseHeads, prefix: str) -> Dict[str, torch.Tensor]:
    return {name: value for name, value in head.state_dict().items() if name.startswith(prefix)}


def test_tasks_share_an_aspp_or_a_decoder_as_in_the_papers_ablation() -> None:
    features = _features(33, 33)
    shared: Dict[str, DenseHeads] = {}
    for shares in ("nothing", "aspp", "decoder"):
        torch.manual_seed(0)
        shared[shares] = DeepLab2PanopticDeepLab.build_head(
            _config(INSTANCE_SHARES=shares), _SHAPES
        ).eval()
    assert not _parts(shared["decoder"], "instance_decoder.")
    assert _parts(shared["decoder"], "center_head.") and _parts(shared["decoder"], "offset_head.")
    assert not _parts(shared["aspp"], "instance_decoder.aspp.")
    # Where both ASPPs have the same weights, the network with one is the network with two.
    two = shared["nothing"]
    two.instance_decoder.aspp.load_state_dict(two.semantic_decoder.aspp.state_dict())
    kept = {k: v for k, v in two.state_dict().items() if not k.startswith("instance_decoder.aspp.")}
    shared["aspp"].load_state_dict(kept)
    calls = []
    shared["aspp"].semantic_decoder.aspp.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        found, expected = shared["aspp"](features), two(features)
        alone = shared["aspp"](features, ["center_offsets"])
    assert calls == [1, 1]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    torch.testing.assert_close(alone["center_offsets"], expected["center_offsets"])


def test_a_shared_aspp_has_the_channels_of_its_owner() -> None:
    changes: Dict[str, Any] = {"INSTANCE_SHARES": "aspp", "SEMANTIC_DECODER__ASPP_CHANNELS": 24}
    head = DeepLab2PanopticDeepLab.build_head(_config(**changes), _SHAPES).eval()
    assert head.semantic_decoder.aspp.proj_conv_bn_act.conv.out_channels == 24
    # 24 and the 32 that "res3" is projected to.
    assert head.instance_decoder.fusion_conv1.conv1_bn_act.pointwise.conv.in_channels == 56


def test_an_aspp_of_a_decoder_without_one_is_refused() -> None:
    decoders, heads = _rows(_config(INSTANCE_SHARES="aspp"))
    for name in ("instance_decoder", "other"):
        wrong = {
            **decoders,
            "semantic_decoder": replace(decoders["semantic_decoder"], aspp_of=name),
        }
        with pytest.raises(ValueError, match="aspp_of of semantic_decoder must be a decoder with"):
            DenseHeads(wrong, heads, _SHAPES, norm=Norm("BN"))


def test_fusions_are_as_many_convolutions_as_a_config_says() -> None:
    options: Dict[str, Any] = {"SEMANTIC_DECODER__FUSION": [3, 2]}
    options["SEMANTIC_DECODER__LOW_LEVEL"] = [["res2", 48]]
    decoder = DeepLab2PanopticDeepLab.build_head(_config(**options), _SHAPES).semantic_decoder
    kernels = {
        name: tuple(value.shape)
        for name, value in decoder.fusion_conv1.state_dict().items()
        if name.endswith("conv.weight")
    }
    # Separable: a kernel for each of 256 + 48 channels, then of 256, and the 1x1 after each.
    assert list(kernels.values()) == [
        *((304, 1, 3, 3), (256, 304, 1, 1)),
        *((256, 1, 3, 3), (256, 256, 1, 1)),
    ]


def test_a_heatmap_that_learns_by_cross_entropy_is_a_probability() -> None:
    head = DeepLab2PanopticDeepLab.build_head(
        _config(LOSS__CENTER_ERROR="cross_entropy"), _SHAPES
    ).eval()
    torch.nn.init.constant_(head.center_head.final_conv.weight, 0.0)
    torch.nn.init.constant_(head.center_head.final_conv.bias, 2.0)
    heatmap = head(_features(33, 33))["center_heatmap"]
    torch.testing.assert_close(heatmap, torch.full_like(heatmap, 0.8807970779778823))  # 1/(1+e^-2)
