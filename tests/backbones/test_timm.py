"""Networks of timm: its own numbers, under the contract of our backbones."""

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone

from deeplab2_d2.backbones import LibraryBackbone
from deeplab2_d2.config import add_deeplab2_config, validate_config

timm = pytest.importorskip("timm")

# One of each kind: convolutions that take any size, patches, branches, patches with channels last.
CONVOLUTIONS, PATCHES = "mobilenetv3_small_050", "test_convnext"
BRANCHES, CHANNELS_LAST = "hrnet_w18_small", "swin_tiny_patch4_window7_224"
TRANSFORMER = "test_vit"


def config(name: str, *options: Any) -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.INPUT.FORMAT, cfg.INPUT.CROP.SIZE = "RGB", [65, 97]
    cfg.MODEL.PIXEL_MEAN = cfg.MODEL.PIXEL_STD = [127.5, 127.5, 127.5]
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "build_deeplab2_timm_backbone", 0
    cfg.MODEL.DEEPLAB2.NORM.NAME = "BN"
    cfg.merge_from_list(["MODEL.DEEPLAB2.TIMM.NAME", name, *options])
    return cfg


def build(name: str, *options: Any) -> LibraryBackbone:
    torch.manual_seed(0)
    return build_backbone(config(name, *options)).eval()


def theirs(name: str, backbone: LibraryBackbone, **options: Any) -> Any:
    """timm's own network with the backbone's weights."""
    network = timm.create_model(name, features_only=True, **options)
    network.load_state_dict(backbone.body.state_dict())
    return network.eval()


def as_timm_normalises(backbone: LibraryBackbone, images: torch.Tensor, name: str) -> torch.Tensor:
    """From x / 127.5 - 1 to what timm's transforms of the network give."""
    data = timm.data.resolve_model_data_config(timm.create_model(name))
    pixels = (images + 1.0) * 0.5
    mean, std = (torch.tensor(data[key]).view(-1, 1, 1) for key in ("mean", "std"))
    return (pixels - mean) / std


@torch.inference_mode()
def test_features_of_any_size_are_timms_at_every_output_stride() -> None:
    images = torch.rand(1, 3, 65, 98) * 2 - 1
    for output_stride in (32, 16, 8):
        backbone = build(CONVOLUTIONS, "MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE", output_stride)
        network = theirs(CONVOLUTIONS, backbone, output_stride=output_stride)
        expected = network(as_timm_normalises(backbone, images, CONVOLUTIONS))
        found = backbone.endpoints(images)
        assert list(found) == ["res1", "res2", "res3", "res4", "res5"]
        for feature, other in zip(found.values(), expected):
            torch.testing.assert_close(feature, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", [PATCHES, BRANCHES, CHANNELS_LAST])
@torch.inference_mode()
def test_features_of_a_multiple_of_the_stride_are_timms(name: str) -> None:
    options = {"strict_img_size": False} if name == CHANNELS_LAST else {}
    backbone, images = build(name), torch.rand(1, 3, 64, 96) * 2 - 1
    expected = theirs(name, backbone, **options)(as_timm_normalises(backbone, images, name))
    for feature, other in zip(backbone.endpoints(images).values(), expected):
        other = other.permute(0, 3, 1, 2) if name == CHANNELS_LAST else other
        torch.testing.assert_close(feature, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name, width", [(PATCHES, None), (BRANCHES, 1)])
def test_cells_lie_where_our_heads_look_for_them(name: str, width: Any) -> None:
    # Of an image whose pixels are their own column, a mean over a cell is the cell's middle: of
    # patches all of it, of a network with overlap what it is centered at.
    backbone = build(name)
    backbone.pixels = torch.nn.Identity()

    def body(images: torch.Tensor) -> Any:
        strides = [shape.stride for shape in backbone.endpoint_shapes.values()]
        return [torch.nn.functional.avg_pool2d(images, width or s, s) for s in strides]

    backbone.body.forward = body
    columns = torch.arange(257.0).expand(1, 3, 257, 257)
    for feature, shape in zip(
        backbone.endpoints(columns).values(), backbone.endpoint_shapes.values()
    ):
        # Without the first and the last, which see the padding.
        middles = feature[0, 0, 2, 1:-1]
        wanted = shape.stride * torch.arange(1.0, len(middles) + 1)
        assert (middles - wanted).abs().max() <= (shape.stride / 5 if width is None else 0.0)


@pytest.mark.parametrize("name", [PATCHES, BRANCHES, TRANSFORMER])
@pytest.mark.parametrize("size", [(65, 97), (66, 50)])
@torch.inference_mode()
def test_channels_and_strides_are_true_at_sizes_that_timm_does_not_take(
    name: str, size: Any
) -> None:
    backbone = build(name)
    features, shapes = backbone(torch.rand(1, 3, *size)), backbone.output_shape()
    assert list(features) == list(shapes) == ["res2", "res3", "res4", "res5"]
    for key, feature in features.items():
        stride = shapes[key].stride
        assert tuple(feature.shape[1:]) == (shapes[key].channels, *(-(-n // stride) for n in size))


@pytest.mark.parametrize(
    "options",
    [
        ["MODEL.PIXEL_MEAN", [123.675, 116.28, 103.53], "MODEL.PIXEL_STD", [58.395, 57.12, 57.375]],
        ["MODEL.PIXEL_MEAN", [103.5, 116.0, 123.0], "MODEL.PIXEL_STD", [1.0, 1.0, 1.0]]
        + ["INPUT.FORMAT", "BGR"],
    ],
    ids=["imagenet", "bgr"],
)
@torch.inference_mode()
def test_the_same_photo_gives_the_same_features_however_the_config_normalises_it(
    options: Any,
) -> None:
    photo = torch.randint(0, 256, (1, 3, 65, 65)).float()
    backbone, other = build(CONVOLUTIONS), build(CONVOLUTIONS, *options)
    cfg = config(CONVOLUTIONS, *options)
    pixels = photo.flip(1) if cfg.INPUT.FORMAT == "BGR" else photo
    mean, std = (
        torch.tensor(v).view(-1, 1, 1) for v in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
    )
    expected = backbone(photo / 127.5 - 1.0)["res5"]
    found = other((pixels - mean) / std)["res5"]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("resnet18x", [], "TIMM.NAME must be one of timm.s names .* got .resnet18x"),
        (
            CHANNELS_LAST,
            ["MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE", 16],
            r"OUTPUT_STRIDE must be 32 for timm's swin_.* strides \[4, 8, 16, 32\] and no atrous",
        ),
        (
            "levit_128",
            [],
            r"strides 4, 8, 16 and 32, got timm's levit_128, which has \[16, 32, 64\]",
        ),
        ("vit_tiny_r_s16_p8_224", [], "patches of .14, 16. pixels .* got timm's vit_tiny_r"),
        (CONVOLUTIONS, ["MODEL.DEEPLAB2.TIMM.OUT_FEATURES", ["res6"]], r"OUT_FEATURES must be of"),
        (CONVOLUTIONS, ["MODEL.DEEPLAB2.NORM.NAME", "GN"], "NORM.NAME must be one of .*'GN'"),
        (
            CONVOLUTIONS,
            ["MODEL.DEEPLAB2.BACKBONE.VGG.CEIL_POOLING", True],
            "VGG.CEIL_POOLING must be False for timm's mobilenetv3",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_by_key_with_what_there_is(
    name: str, options: Any, message: str
) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_backbone(config(name, *options))


def test_a_key_of_timm_without_a_backbone_of_timm_is_refused() -> None:
    cfg = config(CONVOLUTIONS, "MODEL.BACKBONE.NAME", "build_deeplab2_backbone")
    with pytest.raises(ValueError, match="TIMM.NAME must be 'resnet50' where MODEL.BACKBONE.NAME"):
        validate_config(cfg)
