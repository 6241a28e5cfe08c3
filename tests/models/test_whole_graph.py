"""Networks go through tracer, exporter and counter of operations as they are, without a wrapper."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch.utils import _pytree

from deeplab2_d2.engine import load_config
from deeplab2_d2.structures import Encoded, Memory

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")

FOLDER = Path(__file__).resolve().parents[2] / "configs/Shapes-PanopticSegmentation"
SIZE = (1, 3, 33, 49)
# Convolutions with and without their norm folded in round otherwise.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}

_PANOPTIC = "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
_SEMANTIC = [
    *("MODEL.META_ARCHITECTURE", "SemanticSegmentor"),
    *("MODEL.SEM_SEG_HEAD.NAME", "DeepLab2DeepLabV3PlusHead"),
    *("MODEL.DEEPLAB2.SEMANTIC_DECODER.LOW_LEVEL", "[['res2', 16]]"),
]
MODELS = {
    "Panoptic-DeepLab": (_PANOPTIC, []),
    "DeepLab v3+": (_PANOPTIC, _SEMANTIC),
    "MaX-DeepLab": ("max_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml", []),
    "kMaX-DeepLab": ("kmax_deeplab_tiny_os32_poly_bs8_crop_129_161.yaml", []),
}


def build(name: str) -> nn.Module:
    """The model of that name, with weights and statistics that no initialisation has."""
    file, options = MODELS[name]
    narrow = ["MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0", "MODEL.DEVICE", "cpu"]
    model = build_model(load_config(str(FOLDER / file), [*narrow, *options])).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean, std=0.1)
    return model


def network_of(model: nn.Module) -> nn.Sequential:
    """Backbone and head, one after the other."""
    head = model.sem_seg_head if hasattr(model, "sem_seg_head") else model.head
    return nn.Sequential(model.backbone, head).eval()


def tensors(outputs: object) -> list:
    return [leaf for leaf in _pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]


def assert_same(found: object, expected: object) -> None:
    found, expected = tensors(found), tensors(expected)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, **CLOSE)


# With gradients, too, as PyTorch's own examples trace: the tracer checks without.
@pytest.mark.parametrize("has_gradients", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_a_traced_network_gives_the_eager_values(name: str, has_gradients: bool) -> None:
    network, images = network_of(build(name)), torch.randn(SIZE)
    with torch.set_grad_enabled(has_gradients):
        traced = torch.jit.trace(network, torch.randn(SIZE), strict=False)
    with torch.no_grad():
        assert_same(traced(images), network(images))


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_network_gives_the_eager_values(name: str) -> None:
    network, images = network_of(build(name)), torch.randn(SIZE)
    with torch.no_grad():
        program = torch.export.export(network, (torch.randn(SIZE),))
        assert_same(program.module()(images), network(images))


@pytest.mark.parametrize("name", MODELS)
def test_operations_of_a_network_are_counted_part_by_part(name: str) -> None:
    network = network_of(build(name))
    with torch.no_grad():
        counts = FlopCountAnalysis(network, torch.randn(SIZE)).unsupported_ops_warnings(False)
        by_module = counts.by_module()
    assert by_module["0"] > 0 and by_module["1"] > 0
    assert by_module["0"] + by_module["1"] == by_module[""] == counts.total()


def test_a_memory_comes_out_of_an_exported_encoder_with_its_type() -> None:
    backbone, images = build("MaX-DeepLab").backbone, torch.randn(SIZE)
    with torch.no_grad():
        found = torch.export.export(backbone, (images,)).module()(images)
        expected = backbone(images)
    assert isinstance(found, Encoded) and isinstance(found.memory, Memory)
    assert_same(found, expected)


@pytest.mark.parametrize("name", ["Panoptic-DeepLab", "MaX-DeepLab"])
def test_the_network_of_a_model_predicts_its_maps_and_has_its_mode(name: str) -> None:
    model, images = build(name), torch.randn(SIZE)
    with torch.no_grad():
        assert_same(model.network(images), model.predict(images))
    assert not model.network.training and model.train().network.training
    assert {*model.network.parameters()} == {*model.parameters()}
