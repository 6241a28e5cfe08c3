"""MODEL.BACKBONE.FREEZE_AT holds for every family."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from narrow_backbones import NAMES, narrow_backbone

from deeplab2_d2.backbones import EndpointBackbone, freeze_stages, stage_weights
from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.structures import new_names


def _config(*options):
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_backbone"
    cfg.merge_from_list(["MODEL.DEEPLAB2.BACKBONE.NAME", "resnet_tiny", *options])
    return cfg


def test_the_stages_of_a_residual_network_are_its_stem_and_stages():
    stages = stage_weights(narrow_backbone("resnet50", 16), 3)
    words = [{name.split(".")[0] for name in stages[number]} for number in sorted(stages)]
    assert words == [
        {"stem"},
        {"stem", "stage2"},
        {"stem", "stage2", "stage3"},
        {"stem", "stage2", "stage3", "stage4"},
        {"stem", "stage2", "stage3", "stage4", "stage5"},
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("freeze_at", [1, 3, 5])
def test_the_endpoint_of_the_last_frozen_stage_learns_nothing_and_the_next_does(name, freeze_at):
    backbone = narrow_backbone(name, 16).train()
    if freeze_at == 1 and not backbone.stage_parts and "res1" not in backbone.endpoint_shapes:
        # Its stem is no endpoint.
        with pytest.raises(ValueError, match=r"a stage of .*, \[2, 3, 4, 5\], got 1"):
            freeze_stages(backbone, freeze_at, in_channels=3)
        return
    freeze_stages(backbone, freeze_at, in_channels=3)
    statistics = {k: v.clone() for k, v in backbone.named_buffers()}
    endpoints = backbone.endpoints(torch.rand(2, 3, 65, 65))
    new = new_names(backbone)
    # What no pretraining has goes on to learn: of a network with a memory, before res5, too.
    learns = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert new & {n for n, _ in backbone.named_parameters()} <= learns
    if not new and not backbone.stage_parts:
        assert not endpoints[f"res{freeze_at}"].requires_grad
    if freeze_at < 5:
        assert endpoints[f"res{freeze_at + 1}"].requires_grad
    moved = {k for k, v in backbone.named_buffers() if not torch.equal(v, statistics[k])}
    frozen = {n.rpartition(".")[0] for n, p in backbone.named_parameters() if not p.requires_grad}
    assert not {k.rpartition(".")[0] for k in moved} & frozen
    # Layer norm and none at all have no statistics.
    assert moved or freeze_at == 5 or not statistics


@pytest.mark.parametrize("freeze_at, first", [(0, "stem"), (2, "stage3"), (5, None)])
def test_the_config_key_decides(freeze_at, first):
    backbone = build_backbone(_config("MODEL.BACKBONE.FREEZE_AT", str(freeze_at)))
    learning = [name for name, p in backbone.named_parameters() if p.requires_grad]
    assert (learning[0].split(".")[0] if learning else None) == first
    for _ in range(2):
        backbone.train()
        norms = [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert all(norm.training == norm.weight.requires_grad for norm in norms)
        assert backbone.training


def test_a_stage_that_there_is_not_is_named():
    with pytest.raises(ValueError, match=r"FREEZE_AT must be 0 or .*\[1, 2, 3, 4, 5\], got 6"):
        build_backbone(_config("MODEL.BACKBONE.FREEZE_AT", "6"))


class Parallel(EndpointBackbone):
    """Two branches that exchange everything at the end, as high-resolution networks do."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 1, 1), torch.nn.Conv2d(3, 1, 1)
        self.endpoint_shapes = {name: ShapeSpec(channels=1, stride=1) for name in ("res2", "res3")}
        self.set_out_features(["res2"])

    def endpoints(self, images):
        both = self.first(images) + self.second(images)
        return {"res2": both, "res3": 2 * both}


def test_a_network_without_first_stages_refuses_to_freeze_them():
    with pytest.raises(ValueError, match="must be 0 for Parallel, whose res3 is not computed from"):
        freeze_stages(Parallel(), 2, in_channels=3)


def test_such_a_network_can_name_its_stages():
    class Named(Parallel):
        stage_parts = (("first",), ("second",))

    for freeze_at, learning in ((1, ["second.weight", "second.bias"]), (2, [])):
        backbone = Named()
        freeze_stages(backbone, freeze_at, in_channels=3)
        assert [n for n, p in backbone.named_parameters() if p.requires_grad] == learning
