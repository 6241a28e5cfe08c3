"""Networks of timm under heads: losses, frozen stages, norms, Detectron2's pyramid."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone, build_model
from torch import Tensor, nn

from deeplab2_d2.backbones import freeze_stages
from deeplab2_d2.engine import load_config

pytest.importorskip("timm")

SHAPES = (
    Path(__file__).resolve().parents[2]
    / "configs/Shapes-PanopticSegmentation/panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
)
SMALL, TRANSFORMER = "mobilenetv3_small_050", "test_vit"


def config(name: str, *options: Any) -> CfgNode:
    own = ["MODEL.BACKBONE.NAME", "build_deeplab2_timm_backbone", "MODEL.DEEPLAB2.TIMM.NAME", name]
    own += ["MODEL.DEEPLAB2.BACKBONE.WIDTH_MULTIPLIER", "1.0", "MODEL.DEEPLAB2.NORM.NAME", "BN"]
    return load_config(str(SHAPES), [*own, *map(str, options)])


def sample(height: int = 33, width: int = 49) -> Any:
    generator = torch.Generator().manual_seed(1)
    ones = torch.ones(height, width)
    return {
        "file_name": "generated.png",
        "image": torch.randint(0, 256, (3, height, width), generator=generator).float(),
        "sem_seg": torch.randint(0, 7, (height, width), generator=generator),
        **{f"{name}_weights": ones for name in ("sem_seg", "center", "offset")},
        "center_heatmap": torch.rand(1, height, width, generator=generator),
        "center_offsets": 5 * torch.randn(2, height, width, generator=generator),
    }


@pytest.mark.parametrize(
    "name, options",
    [
        (SMALL, []),
        (TRANSFORMER, ["MODEL.DEEPLAB2.TIMM.OUT_FEATURES", "['res2', 'res3', 'res5']"]),
    ],
)
def test_panoptic_deeplab_learns_with_all_of_it(name: str, options: Any) -> None:
    torch.manual_seed(0)
    model = build_model(config(name, *options)).train()
    losses = model([sample(), sample()])
    assert set(losses) == {"loss_semantic", "loss_center", "loss_offset"}
    sum(losses.values()).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []
    with torch.no_grad():
        (output,) = model.eval()([{"image": torch.rand(3, 50, 71) * 255}])
    assert output["sem_seg"].shape == (7, 50, 71)


@pytest.mark.parametrize("name", [SMALL, TRANSFORMER, "hrnet_w18_small"])
@pytest.mark.parametrize("freeze_at", [1, 3])
def test_frozen_stages_learn_nothing_and_the_next_do(name: str, freeze_at: int) -> None:
    options = ["MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE", 32, "INPUT.CROP.SIZE", [65, 97]]
    backbone = build_backbone(config(name, *options)).train()
    freeze_stages(backbone, freeze_at, in_channels=3)
    before = {key: value.clone() for key, value in backbone.named_buffers()}
    endpoints = backbone.endpoints(torch.rand(2, 3, 65, 65))
    frozen = {key for key, p in backbone.named_parameters() if not p.requires_grad}
    first = {SMALL: "body.conv_stem.", TRANSFORMER: "body.model.pos_embed"}.get(name, "body.conv1.")
    assert any(key.startswith(first) for key in frozen)
    assert not any(key.startswith("body.pyramid.") for key in frozen)
    if name == SMALL:
        assert not endpoints[f"res{freeze_at}"].requires_grad
    assert endpoints[f"res{freeze_at + 1}"].requires_grad
    moved = {key for key, value in backbone.named_buffers() if not torch.equal(value, before[key])}
    assert not {key.rpartition(".")[0] for key in moved} & {k.rpartition(".")[0] for k in frozen}
    assert moved or name == TRANSFORMER


@torch.no_grad()
def test_frozen_norms_keep_their_activation_and_numbers() -> None:
    torch.manual_seed(0)
    plain, images = build_backbone(config(SMALL)).eval(), torch.rand(1, 3, 65, 65)
    frozen = build_backbone(config(SMALL, "MODEL.DEEPLAB2.NORM.NAME", "FrozenBN")).train()
    assert not [m for m in frozen.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [m for m in frozen.modules() if isinstance(m, FrozenBatchNorm2d)]
    frozen.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(frozen(images)["res5"], plain(images)["res5"], atol=1e-4, rtol=1e-3)


def test_each_key_reaches_the_network() -> None:
    prefix = "MODEL.DEEPLAB2.TIMM."
    plain = build_backbone(config(SMALL))
    dropping = build_backbone(config(SMALL, prefix + "DROP_PATH", 0.5))
    rates = [getattr(m, "drop_prob", 0.0) for m in dropping.modules() if hasattr(m, "drop_prob")]
    assert max(rates) > 0.3
    momenta = {m.momentum for m in plain.modules() if isinstance(m, nn.BatchNorm2d)}
    assert momenta == {0.03}
    narrow = build_backbone(config(TRANSFORMER, prefix + "PYRAMID_CHANNELS", 8))
    assert {shape.channels for shape in narrow.output_shape().values()} == {8}
    few = build_backbone(config("test_convnext", prefix + "OUT_FEATURES", "['res2', 'res4']"))
    assert list(few(torch.rand(1, 3, 65, 65))) == ["res2", "res4"]
    # The stages after the last are not there.
    assert not [key for key in few.state_dict() if "stages_3" in key]
    recomputing = build_backbone(config(SMALL, prefix + "CHECKPOINT", True)).train()
    recomputing.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 65, 65)
    gradients = [
        _gradient(network.train(), images, "body.blocks.2.0.conv_pw.weight")
        for network in (plain, recomputing)
    ]
    torch.testing.assert_close(gradients[0], gradients[1])
    assert getattr(recomputing.body, "grad_checkpointing", False)


def _gradient(network: nn.Module, images: Tensor, name: str) -> Tensor:
    network(images)["res5"].square().sum().backward()
    gradient = network.get_parameter(name).grad
    assert gradient is not None
    return gradient


@torch.no_grad()
def test_detectron2s_pyramid_stands_on_it() -> None:
    options = ["MODEL.BACKBONE.NAME", "build_deeplab2_timm_fpn_backbone"]
    options += ["MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE", 32, "INPUT.CROP.SIZE", [65, 97]]
    options += ["MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]]
    backbone = build_backbone(config("test_convnext", *options)).eval()
    assert backbone.size_divisibility == 32
    features = backbone(torch.rand(1, 3, 64, 96))
    sizes = {name: tuple(feature.shape[1:]) for name, feature in features.items()}
    assert sizes["p2"] == (256, 16, 24) and sizes["p5"] == (256, 2, 3)
