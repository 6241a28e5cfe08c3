"""ResNets of torchvision and of Detectron2's zoo start every model with Detectron2's ResNet."""

import logging
import os
import pickle
import re

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from tiny_oanet import make_config

from deeplab2_d2.checkpoint import DeepLab2Checkpointer

torchvision = pytest.importorskip("torchvision")

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def make_torchvision(depth):
    """With weights and statistics at random, as those of a trained network are."""
    torch.manual_seed(depth)
    network = getattr(torchvision.models, f"resnet{depth}")(num_classes=7).eval()
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0)
        elif "bn" in name and value.is_floating_point():
            value.normal_(std=0.2)
    return network


def make_resnet_config(depth, **oanet):
    cfg = make_config(**oanet)
    cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = "RGB", MEAN, STD
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.STRIDE_IN_1X1 = depth, False
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    return cfg


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    path = tmp_path_factory.mktemp("torchvision") / "resnet18.pth"
    network = make_torchvision(18)
    torch.save(network.state_dict(), path)
    return str(path), network


@pytest.mark.parametrize("depth, is_zip", [(50, False), (101, True)])
def test_features_are_torchvisions_own(depth, is_zip, tmp_path, caplog):
    network = make_torchvision(depth)
    path = tmp_path / f"resnet{depth}.pth"
    # The published resnet50-19c8e357.pth has the format before PyTorch 1.6.
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=is_zip)
    model = build_model(make_resnet_config(depth)).eval()
    with caplog.at_level(logging.WARNING, "deeplab2_d2.checkpoint.torchvision_resnet"):
        DeepLab2Checkpointer(model).load(str(path))
    logger = "deeplab2_d2.checkpoint.torchvision_resnet"
    assert [r.getMessage() for r in caplog.records if r.name == logger] == []
    image = torch.randint(0, 256, (3, 64, 96), generator=torch.Generator().manual_seed(0))
    pixels = torchvision.transforms.functional.normalize(
        image / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    ours = model.preprocess_image([{"image": image}]).tensor
    torch.testing.assert_close(ours[0], pixels, rtol=0, atol=1e-5)
    # In float64, so that the order of a sum is not seen.
    with torch.no_grad():
        features = model.double().backbone.bottom_up(ours.double())
        network.double()
        x = network.maxpool(network.relu(network.bn1(network.conv1(ours.double()))))
        for stage in range(1, 5):
            x = getattr(network, f"layer{stage}")(x)
            scale = x.abs().max()
            assert scale > 0
            torch.testing.assert_close(features[f"res{stage + 1}"] / scale, x / scale)


def test_both_backbones_of_an_unshared_model_have_them(resnet18):
    path, network = resnet18
    model = build_model(make_resnet_config(18, sharing="none"))
    DeepLab2Checkpointer(model).load(path)
    for body in (model.backbone.bottom_up, model.stuff_backbone.bottom_up):
        assert torch.equal(body.res5[1].conv2.weight, network.layer4[1].conv2.weight)
        assert torch.equal(body.stem.conv1.norm.running_var, network.bn1.running_var)


def test_the_last_stage_goes_to_the_heads_that_have_it(tmp_path):
    # Detectron2's default config: Mask R-CNN's C4 head.
    cfg = get_cfg()
    cfg.MODEL.DEVICE, cfg.MODEL.RESNETS.STRIDE_IN_1X1 = "cpu", False
    model, network = build_model(cfg), make_torchvision(50)
    torch.save(network.state_dict(), tmp_path / "r50.pth")
    DeepLab2Checkpointer(model).load(str(tmp_path / "r50.pth"))
    assert torch.equal(model.backbone.res4[5].conv3.weight, network.layer3[5].conv3.weight)
    assert torch.equal(model.roi_heads.res5[2].conv3.weight, network.layer4[2].conv3.weight)


def test_other_pixels_are_warned_of_with_the_keys(resnet18, caplog):
    cfg = make_resnet_config(18)
    cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = "BGR", MEAN[::-1], [1.0] * 3
    with caplog.at_level(logging.WARNING, "deeplab2_d2.checkpoint.torchvision_resnet"):
        DeepLab2Checkpointer(build_model(cfg)).load(resnet18[0])
    logger = "deeplab2_d2.checkpoint.torchvision_resnet"
    (message,) = [r.getMessage() for r in caplog.records if r.name == logger]
    assert "INPUT.FORMAT RGB, got BGR" in message
    assert "MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], got [103.53, 116.28, 123.675]" in message
    assert "MODEL.PIXEL_STD [58.395, 57.12, 57.375], got [1.0, 1.0, 1.0]" in message


def test_another_network_is_refused_in_a_sentence(resnet18, tmp_path):
    path, network = resnet18
    with pytest.raises(ValueError, match="MODEL.RESNETS.DEPTH.* got .* missing"):
        DeepLab2Checkpointer(build_model(make_resnet_config(34))).load(path)
    cfg = make_config()
    with pytest.raises(ValueError, match="MODEL.BACKBONE.NAME .* got a DeepLab2OANet without"):
        DeepLab2Checkpointer(build_model(cfg)).load(path)
    cfg = make_resnet_config(50)
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = True
    with pytest.raises(ValueError, match="STRIDE_IN_1X1 False, got True"):
        DeepLab2Checkpointer(build_model(cfg)).load(path)
    model = build_model(make_resnet_config(34))
    DeepLab2Checkpointer(model, allow_partial=True).load(path)
    assert torch.equal(
        model.backbone.bottom_up.res3[1].conv1.weight, network.layer2[1].conv1.weight
    )


def caffe2_names(body):
    """A Detectron2 ResNet's weights under the names of Caffe2's; it has no statistics."""
    blobs = {}
    for name, value in body.state_dict().items():
        if "running" in name:
            continue
        name = name.replace("stem.conv1", "res.conv1" if ".norm" in name else "conv1")
        for k, letter in enumerate("abc", start=1):
            name = re.sub(rf"(res\d\.\d+)\.conv{k}", rf"\1.branch2{letter}", name)
        name = name.replace(".shortcut", ".branch1").replace("norm.weight", "bn.s")
        name = name.replace("norm.bias", "bn.b").replace(".weight", ".w")
        blobs[name.replace(".", "_")] = value.numpy()
    return {**blobs, "fc1000_w": blobs["conv1_w"][:2], "fc1000_b": blobs["res_conv1_bn_b"][:2]}


@pytest.mark.parametrize(
    "address, is_caffe2",
    [("MSRA/R-50.pkl", True), ("torchvision/R-50.pkl", False)],
)
def test_names_of_detectron2s_zoo_load_as_in_detectron2(address, is_caffe2, tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    # A small one in the place of the large.
    cfg = make_resnet_config(18)
    donor = build_model(cfg).backbone.bottom_up
    content = caffe2_names(donor)
    if not is_caffe2:
        weights = {name: value.numpy() for name, value in donor.state_dict().items()}
        content = {"model": weights, "__author__": "torchvision", "matching_heuristics": True}
    # Where Detectron2 keeps what it has downloaded.
    place = tmp_path / "detectron2" / "ImageNetPretrained" / address
    os.makedirs(place.parent)
    place.write_bytes(pickle.dumps(content))
    ours, theirs = build_model(cfg), build_model(cfg)
    DeepLab2Checkpointer(ours).load(f"detectron2://ImageNetPretrained/{address}")
    DetectionCheckpointer(theirs).load(str(place))
    expected = theirs.backbone.bottom_up.state_dict()
    state = ours.backbone.bottom_up.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    assert torch.equal(state["res5.1.conv2.weight"], donor.state_dict()["res5.1.conv2.weight"])
    assert torch.equal(state["stem.conv1.weight"], donor.state_dict()["stem.conv1.weight"])
