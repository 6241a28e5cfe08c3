"""State dicts of bytedance/kmax-deeplab: every name has its place, and computes there the same."""

from pathlib import Path
from typing import Any, Dict, Tuple

import kmax_port_names as port_names
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from kmax_port_formulas import Port
from torch import Tensor, nn

from deeplab2_d2.backbones import build_backbone_by_name
from deeplab2_d2.checkpoint import DeepLab2Checkpointer
from deeplab2_d2.checkpoint.convert import build_meta_model
from deeplab2_d2.checkpoint.state_dict_names import rename_state_dict
from deeplab2_d2.engine import load_config
from deeplab2_d2.layers import Norm
from deeplab2_d2.models.kmax_deeplab.head import LayerPredictor
from deeplab2_d2.models.kmax_deeplab.pixel_decoder import PixelDecoder
from deeplab2_d2.models.kmax_deeplab.transformer_decoder import KMeansLayer, TransformerSpec

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
KMAX = "MODEL.DEEPLAB2.KMAX_DEEPLAB."
RESNET = (
    *("MODEL.DEEPLAB2.BACKBONE.NAME", "resnet50_torchvision"),
    *(KMAX + "ACTIVATED_FEATURES", "True"),
)
COCO = "COCO-PanopticSegmentation/kmax_deeplab_{}_os32_poly_150k_bs64_crop_1281_1281.yaml"
CITYSCAPES = (
    "Cityscapes-PanopticSegmentation/kmax_deeplab_{}_os32_poly_60k_bs32_crop_1025_2049.yaml"
)
ADE20K = "ADE20K-PanopticSegmentation/kmax_deeplab_{}_os32_poly_100k_bs64_crop_1281_1281.yaml"
# What a state dict begins with that the rules are for.
MARK = {"sem_seg_head.pixel_decoder._in_norms.9.weight": torch.zeros(1)}


def config(name: str, *options: str) -> Any:
    shared = (KMAX + "DECODER_ATROUS_RATE", "1", "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu")
    return load_config(str(CONFIGS / name), [*shared, *options])


def on_meta(shapes: port_names.Shapes) -> Dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def random_weights(shapes: port_names.Shapes) -> Dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            continue
        values = torch.rand(shape, generator=generator)
        is_positive = name.endswith("running_var") or "norm" in name and name.endswith("weight")
        weights[name] = values + 0.5 if is_positive else values - 0.5
    return weights


def resnet_port(num_classes: int) -> port_names.Shapes:
    channels = (2048, 1024, 512, 256)
    return port_names.kmax_deeplab(port_names.resnet50(), channels, num_classes=num_classes)


def convnext_port(size: str, num_classes: int) -> port_names.Shapes:
    depths, dims = port_names.CONVNEXTS[size]
    backbone = port_names.convnext(depths, dims)
    return port_names.kmax_deeplab(backbone, dims[::-1], num_classes=num_classes)


def cityscapes_port(backbone: port_names.Shapes, channels: Tuple[int, ...]) -> port_names.Shapes:
    options: Dict[str, Any] = {"num_queries": 256, "has_semantic_decoder": False}
    return port_names.kmax_deeplab(backbone, channels, num_classes=19, **options)


def cityscapes_convnext() -> port_names.Shapes:
    depths, dims = port_names.CONVNEXTS["large"]
    return cityscapes_port(port_names.convnext(depths, dims), (*dims[::-1], dims[0]))


@pytest.mark.parametrize(
    "name, options, port",
    [
        (COCO.format("R_50"), RESNET, resnet_port(133)),
        *(
            (COCO.format(f"ConvNeXt_{size[0].upper()}"), (), convnext_port(size, 133))
            for size in port_names.CONVNEXTS
        ),
        (ADE20K.format("R_50"), RESNET, resnet_port(150)),
        (CITYSCAPES.format("ConvNeXt_L"), (), cityscapes_convnext()),
    ],
)
def test_every_name_has_its_parameter_and_every_parameter_its_name(name, options, port):
    renamed = rename_state_dict(on_meta(port))
    assert renamed is not None
    weights, unknown = renamed
    assert unknown == []
    ours = build_meta_model(config(name, *options)).state_dict()
    expected = {key: value for key, value in ours.items() if "num_batches_tracked" not in key}
    assert {key: tuple(value.shape) for key, value in weights.items()} == {
        key: tuple(value.shape) for key, value in expected.items()
    }


def test_a_checkpoint_loads_and_says_what_its_network_needs(tmp_path, caplog):
    port = random_weights(convnext_port("tiny", 133))
    path = str(tmp_path / "port.pth")
    torch.save({"model": {f"module.{name}": value for name, value in port.items()}}, path)
    model = build_meta_model(config(COCO.format("ConvNeXt_T")))
    DeepLab2Checkpointer(model).check(path)
    assert KMAX + "DECODER_ATROUS_RATE 1" in caplog.text
    model = build_meta_model(config(COCO.format("R_50")))
    with pytest.raises(ValueError, match="do not fit the model"):
        DeepLab2Checkpointer(model).check(path)


def test_what_no_network_here_reads_is_refused_by_its_key():
    port = cityscapes_port(port_names.resnet50(), (2048, 1024, 512, 64, 256))
    with pytest.raises(ValueError, match=r"_in_norms\.3\.weight must be of stage 2 .* 64 channels"):
        rename_state_dict(on_meta(port))


def test_classes_are_things_stuff_and_void_here():
    theirs = "sem_seg_head.predictor._predcitor._transformer_class_head.conv.bias"
    renamed = rename_state_dict({theirs: torch.arange(20.0), **MARK})
    assert renamed is not None
    # Cityscapes: person to bicycle are 11 to 18.
    rows = renamed[0]["head.transformer_class_head.bias"].tolist()
    assert rows == [*range(11, 19), *range(11), 19]
    # COCO's things are the first ones, and the auxiliary head's void is left out.
    semantic = "sem_seg_head.predictor._auxiliary_semantic_predictor.final_conv.conv.bias"
    both = {theirs: torch.arange(134.0), semantic: torch.arange(134.0), **MARK}
    renamed = rename_state_dict(both)
    assert renamed is not None
    assert renamed[0]["head.transformer_class_head.bias"].tolist() == [*range(134)]
    assert renamed[0]["head.semantic_head.final_conv.bias"].tolist() == [*range(133)]


def load(module: nn.Module, weights: Dict[str, Tensor], theirs: str, ours: str) -> None:
    renamed = rename_state_dict({**{theirs + k: v for k, v in weights.items()}, **MARK})
    assert renamed is not None
    renamed[0].pop("head.pixel_decoder.backbone_norms.9.weight")
    state = {key[len(ours) :]: v for key, v in renamed[0].items() if key.startswith(ours)}
    report = module.load_state_dict(state, strict=False)
    assert report.unexpected_keys == []
    assert all(key.endswith("num_batches_tracked") for key in report.missing_keys)
    module.eval()


@pytest.mark.parametrize("atrous_rate", [1, 2], ids=["port", "deeplab2"])
def test_the_pixel_decoder_is_that_of_the_formulas(atrous_rate):
    channels, widths, blocks = (24, 20, 12, 10), (8, 8, 6, 5), (1, 2, 1, 1)
    weights = random_weights(port_names.pixel_decoder(channels, widths, blocks))
    generator = torch.Generator().manual_seed(1)
    shapes, features = {}, {}
    for index, count in enumerate(channels):
        name, stride = f"res{5 - index}", 32 >> index
        shapes[name] = ShapeSpec(channels=count, stride=stride)
        size = (64 // stride + 1, 96 // stride + 1)
        features[name] = torch.randn(2, count, *size, generator=generator)
    expected = Port(weights, atrous_rate).pixel_decoder(list(features.values()), blocks)
    ours = PixelDecoder(
        shapes,
        features=list(shapes),
        widths=widths,
        num_blocks=blocks,
        norm=Norm("BN"),
        atrous_rate=atrous_rate,
    )
    load(ours, weights, "sem_seg_head.pixel_decoder.", "head.pixel_decoder.")
    with torch.no_grad():
        output = ours(features)
    for ours_map, their_map in zip(output, expected):
        torch.testing.assert_close(ours_map, their_map, rtol=1e-4, atol=1e-4)


def test_a_layer_of_the_transformer_decoder_is_that_of_the_port():
    num_classes, num_centers = 5, 7
    weights = random_weights(port_names.transformer_layer(32, num_classes + 1))
    # Sums of 256 to 2048 terms stay of the size of one.
    for name, value in weights.items():
        if name.endswith("conv.weight"):
            weights[name] = value * (12.0 / value[0].numel()) ** 0.5
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, 32, 3, 5, generator=generator)
    centers = torch.randn(2, 256, num_centers, generator=generator)
    expected, masks = Port(weights).transformer_layer(pixels, centers)

    node, norm = config(COCO.format("R_50")).MODEL.DEEPLAB2.MAX_DEEPLAB, Norm("BN")
    ours = KMeansLayer(
        32,
        TransformerSpec(num_slots=num_centers),
        build_predictor=LayerPredictor(
            num_classes=num_classes,
            pixel_channels=node.PIXEL_CHANNELS,
            channels=node.PIXEL_HEAD.CHANNELS,
            conv_type=node.PIXEL_CONV_TYPE,
            norm=norm,
        ),
        norm=norm,
    )
    layer = "sem_seg_head.predictor._kmax_transformer_layers.3."
    load(ours, weights, layer, "head.transformer_decoder.kmax_decoder.3.block1_transformer.")
    with torch.no_grad():
        output, prediction = ours(pixels, centers)
    torch.testing.assert_close(prediction["mask_logits"], masks, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)


def test_its_resnet_is_detectron2s():
    torch.manual_seed(0)
    stages = ResNet.make_default_stages(50, stride_in_1x1=False, norm="BN")
    names = [f"res{number}" for number in (2, 3, 4, 5)]
    theirs = ResNet(BasicStem(3, 64, norm="BN"), stages, out_features=names).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.weight, 0.5, 1.0)
    ours = build_backbone_by_name("resnet50_torchvision", norm=Norm("BN"))
    load(ours, theirs.state_dict(), "backbone.", "backbone.")
    assert ours.output_shape()["res5"] == ShapeSpec(channels=2048, stride=32)
    images = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, output = theirs(images), ours(images)
    for name in names:
        torch.testing.assert_close(output[name], expected[name], rtol=1e-3, atol=1e-3)
