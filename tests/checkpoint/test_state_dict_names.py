"""State dicts of other PyTorch repositories have their place in our networks."""

import gzip
import json
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import Tensor, nn

from deeplab2_d2.checkpoint import DeepLab2Checkpointer
from deeplab2_d2.checkpoint.convert import build_meta_model
from deeplab2_d2.checkpoint.state_dict_names import (
    BACKBONES,
    PublishedBackbone,
    published_name,
    rename_state_dict,
)
from deeplab2_d2.checkpoint.zoo import get_config
from deeplab2_d2.config import add_deeplab2_config

_MANIFEST = Path(__file__).resolve().parents[3] / "shared" / "parity" / "torch_manifest.jsonl.gz"
_NODE = "MODEL.DEEPLAB2."
_PLAIN_POOLING = (
    *(_NODE + "SEMANTIC_DECODER.ASPP", "global_plain"),
    *(_NODE + "INSTANCE_DECODER.ASPP", "global_plain"),
)
_CONFIGS: Dict[str, Tuple[Any, ...]] = {
    **{
        f"hrnetv2_w{width}_imagenet": (_NODE + "BACKBONE.NAME", f"hrnet_w{width}_plus")
        for width in (18, 32, 48)
    },
    "seg_hrnet_w48_cityscapes": (
        *("MODEL.META_ARCHITECTURE", "SemanticSegmentor"),
        *("MODEL.SEM_SEG_HEAD.NAME", "DeepLab2HRNetHead"),
        *(_NODE + "BACKBONE.NAME", "hrnet_w48", _NODE + "BACKBONE.HRNET.CONCATENATE", True),
        *(_NODE + "SEMANTIC_DECODER.FEATURE", "backbone_output"),
    ),
    "panoptic_deeplab_H48_os4_cityscapes": (
        *(_NODE + "BACKBONE.NAME", "hrnet_w48", *_PLAIN_POOLING),
        *(_NODE + "SEMANTIC_DECODER.LOW_LEVEL", [["res4", 128], ["res3", 64], ["res2", 32]]),
        *(_NODE + "INSTANCE_DECODER.LOW_LEVEL", [["res4", 64], ["res3", 32], ["res2", 16]]),
    ),
    "panoptic_deeplab_X65_os32_cityscapes": (
        *(_NODE + "BACKBONE.NAME", "xception_65", *_PLAIN_POOLING),
        *(_NODE + "SEMANTIC_DECODER.LOW_LEVEL", [["middle_flow", 128], ["res3", 64], ["res2", 32]]),
        *(_NODE + "INSTANCE_DECODER.LOW_LEVEL", [["middle_flow", 64], ["res3", 32], ["res2", 16]]),
    ),
    "deeplabv2_resnet101_msc-vocaug": (
        *("MODEL.META_ARCHITECTURE", "DeepLab2DeepLabV2", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 21),
        *(_NODE + "BACKBONE.NAME", "resnet101_caffe", _NODE + "DEEPLAB.HIDDEN_CHANNELS", 0),
    ),
    "deeplabv2_resnet101_msc-cocostuff164k": (
        *("MODEL.META_ARCHITECTURE", "DeepLab2DeepLabV2", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 182),
        *(_NODE + "BACKBONE.NAME", "resnet101_caffe", _NODE + "DEEPLAB.HIDDEN_CHANNELS", 0),
    ),
}


def _config(*options: Any) -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "DeepLab2PanopticDeepLab"
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_backbone"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 19
    cfg.DATASETS.TRAIN = ("cityscapes_fine_panoptic_train",)
    cfg.MODEL.DEEPLAB2.NORM.NAME = "BN"
    cfg.INPUT.CROP.SIZE = [65, 65]
    cfg.merge_from_list(list(options))
    return cfg


def _shapes(model: nn.Module) -> Dict[str, Tuple[int, ...]]:
    return {
        name: tuple(value.shape)
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def _published(model: str) -> Dict[str, Tuple[int, ...]]:
    """Names and shapes of a published state dict."""
    if not _MANIFEST.is_file():
        pytest.skip("no ../shared/parity beside the clone")
    with gzip.open(_MANIFEST, "rt") as file:
        rows = [json.loads(line) for line in file]
    return {
        key: tuple(shape)
        for row in rows
        if row["model"] == model
        for key, shape in row["variables"]
    }


@pytest.mark.parametrize("name", _CONFIGS)
def test_every_key_of_a_published_state_dict_has_its_parameter(name: str) -> None:
    renamed = rename_state_dict(_published(name))
    assert renamed is not None
    weights, unknown = renamed
    ours = _shapes(build_meta_model(_config(*_CONFIGS[name])))
    if "imagenet" in name:
        assert unknown == ["classifier.weight", "classifier.bias"]
        ours = {key: shape for key, shape in ours.items() if key.startswith("backbone.")}
    else:
        assert unknown == []
    assert weights == ours


_HRNET, _XCEPTION, _CAFFE_RESNET, _ = BACKBONES


@pytest.mark.parametrize(
    "backbone, theirs, ours",
    [
        (_HRNET, "module.bn2.running_var", "backbone.conv2.batch_norm.running_var"),
        (
            *(_HRNET, "layer1.0.downsample.1.bias"),
            "backbone.first_stage.0.shortcut.batch_norm.bias",
        ),
        (_HRNET, "transition1.1.0.0.weight", "backbone.transitions.0.1.conv.weight"),
        (
            *(_HRNET, "model.stage3.2.branches.1.3.conv2.weight"),
            "backbone.stages.1.2.branches.1.3.conv2_bn.conv.weight",
        ),
        # From branch 0 to branch 2 in two steps; from branch 2 to branch 0 in one.
        (
            *(_HRNET, "stage4.0.fuse_layers.2.0.1.0.weight"),
            "backbone.stages.2.0.fusions.2.0.1.conv.weight",
        ),
        (
            *(_HRNET, "stage4.0.fuse_layers.0.2.1.bias"),
            "backbone.stages.2.0.fusions.0.2.0.batch_norm.bias",
        ),
        (_HRNET, "downsamp_modules.1.0.bias", "backbone.trunk.downsample.1.conv.bias"),
        (_HRNET, "last_layer.3.bias", "sem_seg_head.final_conv.bias"),
        (
            *(_HRNET, "decoder.instance_decoder.fuse.2.0.0.0.weight"),
            "head.instance_decoder.fusion_conv3.conv1_bn_act.depthwise.depthwise_conv.weight",
        ),
        (
            *(_XCEPTION, "decoder.instance_head.classifier.offset.1.bias"),
            "head.offset_head.final_conv.bias",
        ),
        (_XCEPTION, "backbone.conv2.weight", "backbone.conv1_2.conv.weight"),
        (
            *(_XCEPTION, "block5.sep_conv2.block.bn_depth.weight"),
            "backbone.middle_flow.block2.separable_conv2.depthwise.batch_norm.weight",
        ),
        (_XCEPTION, "block20.bn.bias", "backbone.exit_flow.block1.shortcut.batch_norm.bias"),
        (
            *(_CAFFE_RESNET, "base.layer3.block2.conv3x3.bn.weight"),
            "backbone.block2.unit2.conv2.batch_norm.weight",
        ),
        (_CAFFE_RESNET, "base.aspp.c3.bias", "head.branches.3.final_conv.bias"),
    ],
)
def test_a_name_of_theirs_is_ours(backbone: PublishedBackbone, theirs: str, ours: str) -> None:
    assert published_name(theirs, backbone) == ours


def test_names_of_ours_and_of_others_are_left_alone() -> None:
    ours = build_meta_model(_config(_NODE + "BACKBONE.NAME", "hrnet_w18"))
    assert rename_state_dict(ours.state_dict()) is None
    resnet = {f"layer{stage}.0.conv{number}.weight": 0 for stage in (1, 2, 3) for number in (1, 2)}
    assert rename_state_dict({"conv1.weight": 0, "fc.weight": 0, **resnet}) is None


def test_imagenet_weights_are_a_start_with_and_without_their_head(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.rand(shape, generator=generator)
        for name, shape in _published("hrnetv2_w18_imagenet").items()
    }
    path = tmp_path / "hrnetv2_w18_imagenet.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, path)
    conv: Tensor = weights["stage4.2.fuse_layers.3.0.2.0.weight"]
    for name in ("hrnet_w18", "hrnet_w18_plus"):
        model = build_model(_config(_NODE + "BACKBONE.NAME", name))
        DeepLab2Checkpointer(model).load(str(path))
        assert torch.equal(model.backbone.stages[2][2].fusions[3][0][2].conv.weight, conv)
    assert torch.equal(model.backbone.trunk.project.conv.bias, weights["final_layer.0.bias"])


@pytest.mark.parametrize(
    "published, row",
    [
        ("seg_hrnet_w48_cityscapes", "hrnet_w48_cityscapes_trainfine"),
        (
            "panoptic_deeplab_H48_os4_cityscapes",
            "hrnet_w48_panoptic_deeplab_cityscapes_bowenc0221",
        ),
        (
            "panoptic_deeplab_X65_os32_cityscapes",
            "xception65_os32_panoptic_deeplab_cityscapes_bowenc0221",
        ),
        ("deeplabv2_resnet101_msc-vocaug", "resnet101_deeplabv2_msc_voc_trainaug_kazuto1011"),
    ],
)
def test_the_config_of_a_row_of_the_zoo_takes_its_state_dict(published: str, row: str) -> None:
    renamed = rename_state_dict(_published(published))
    assert renamed is not None and renamed[1] == []
    assert renamed[0] == _shapes(build_meta_model(get_config(row)))
