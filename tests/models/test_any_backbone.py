"""Detectron2's own backbones under our heads: sizes, training, inference, tracing."""

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from deeplab2_d2.engine import load_config
from deeplab2_d2.models.image_batch import backbone_size

SHAPES = "configs/Shapes-PanopticSegmentation/panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
DECODERS = ("SEMANTIC_DECODER", "INSTANCE_DECODER")
RESNET = "MODEL.RESNETS.DEPTH 18 MODEL.RESNETS.RES2_OUT_CHANNELS 64 MODEL.RESNETS.NORM BN".split()
RESNET += ["MODEL.RESNETS.OUT_FEATURES", "['res2','res3','res4','res5']"]
RESNET += ["MODEL.FPN.IN_FEATURES", "['res2','res3','res4','res5']", "MODEL.FPN.OUT_CHANNELS", "16"]


class Asks(nn.Module):
    def __init__(self, size_divisibility=0, **constraints):
        super().__init__()
        self.size_divisibility = size_divisibility
        if constraints:
            self.padding_constraints = constraints


@pytest.mark.parametrize(
    "backbone, expected",
    [
        (Asks(), (49, 65)),  # 1 + 3 * 16 and 1 + 4 * 16
        (Asks(32), (64, 64)),
        # As Detectron2's main spells it, for pyramids and for plain transformers.
        (Asks(size_divisiblity=32), (64, 64)),
        (Asks(size_divisibility=16, square_size=100), (112, 112)),
        (Asks(square_size=32), (60, 60)),
    ],
)
def test_a_backbones_wishes_decide_on_the_size_of_the_input(backbone, expected):
    assert backbone_size((40, 60), 16, backbone) == expected


def build(backbone, features, extra=()):
    options = ["MODEL.BACKBONE.NAME", backbone, *RESNET, *extra]
    for decoder in DECODERS:
        key = f"MODEL.DEEPLAB2.{decoder}"
        low = f"[['{features}3',16],['{features}2',8]]"
        options += [f"{key}.FEATURE", f"{features}5", f"{key}.LOW_LEVEL", low]
    return build_model(load_config(SHAPES, options))


class Ramp(nn.Module):
    """Instead of the heads: of class 0 the x, of class 1 the y of a pixel of the input."""

    def forward(self, features):
        height, width = features["p2"].shape[-2:]
        x = torch.linspace(0, 4 * width - 1, width).expand(height, width)
        y = torch.linspace(0, 4 * height - 1, height)[:, None].expand(height, width)
        others = torch.full((5, height, width), -1000.0)
        maps = {"semantic_logits": torch.cat([x[None], y[None], others])[None]}
        maps["center_heatmap"] = torch.zeros(1, 1, height, width)
        maps["center_offsets"] = torch.zeros(1, 2, height, width)
        return maps


def test_padding_for_a_pyramid_is_cut_off_again_wherever_the_image_ends():
    model = build("build_resnet_fpn_backbone", "p").eval()
    model.head = Ramp()
    with torch.no_grad():
        (output,) = model([{"image": torch.zeros(3, 70, 50), "height": 35, "width": 99}])
    logits = output["sem_seg"]
    # The image's last pixel is at (69, 49) of the input of 96 x 64, and the output's at (34, 98).
    assert tuple(logits.shape) == (7, 35, 99)
    assert torch.allclose(logits[0, 3], torch.linspace(0, 49, 99), atol=1e-3)
    assert torch.allclose(logits[1, :, 7], torch.linspace(0, 69, 35), atol=1e-3)


@pytest.mark.parametrize(
    "backbone, features, size",
    [
        ("build_resnet_fpn_backbone", "p", (160, 192)),
        ("build_resnet_backbone", "res", (129, 161)),
    ],
)
def test_every_parameter_of_detectron2s_backbones_learns(backbone, features, size):
    model = build(backbone, features, ["MODEL.BACKBONE.FREEZE_AT", "0"])
    height, width = 129, 161
    sample = {
        "image": torch.rand(3, height, width) * 255,
        "sem_seg": torch.randint(0, 7, (height, width)),
        "sem_seg_weights": torch.ones(height, width),
        "center_heatmap": torch.rand(1, height, width),
        "center_weights": torch.ones(height, width),
        "center_offsets": torch.rand(2, height, width),
        "offset_weights": torch.ones(height, width),
    }
    assert model.batch([sample]).input_size == size
    sum(model([sample]).values()).backward()
    unused = [n for n, p in model.named_parameters() if p.grad is None]
    # The pyramid's level 4 is read by no decoder here.
    assert [n for n in unused if "output4" not in n] == []


@pytest.mark.parametrize("is_with_gradients", [True, False])
def test_a_network_is_traced_with_and_without_gradients(is_with_gradients):
    model = build_model(load_config(SHAPES)).eval()

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            maps = self.model.predict(images)
            return maps["semantic_logits"], maps["center_heatmap"], maps["center_offsets"]

    images = torch.randn(1, 3, 49, 65)
    with torch.set_grad_enabled(is_with_gradients):
        # It records, runs both, and compares graphs and values.
        traced = torch.jit.trace(Network().eval(), images)
        for found, expected in zip(traced(images), Network()(images)):
            assert torch.allclose(found, expected, atol=1e-5)
