"""Weights of Detectron2's zoo load by name, and the ranking module trains alone on them."""

import pickle

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from tiny_oanet import THING_IDS, make_config, make_model, make_sample

from deeplab2_d2.checkpoint import DeepLab2Checkpointer


def zoo_config():
    """Detectron2's Panoptic FPN with few channels, for things and three classes of stuff."""
    cfg = make_config()
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 2
    cfg.MODEL.SEM_SEG_HEAD.NAME, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "SemSegFPNHead", 4
    cfg.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT = 0.5
    return cfg


# Names of the zoo's panoptic_fpn_R_50_1x.
ZOO_NAMES = (
    "backbone.bottom_up.stem.conv1.weight",
    "backbone.bottom_up.stem.conv1.norm.running_mean",
    "backbone.bottom_up.res2.0.conv1.weight",
    "backbone.bottom_up.res5.1.conv2.norm.weight",
    "backbone.fpn_lateral2.weight",
    "backbone.fpn_output5.bias",
    "proposal_generator.rpn_head.conv.weight",
    "proposal_generator.rpn_head.objectness_logits.weight",
    "proposal_generator.rpn_head.anchor_deltas.bias",
    "roi_heads.box_head.fc1.weight",
    "roi_heads.box_head.fc2.bias",
    "roi_heads.box_predictor.cls_score.weight",
    "roi_heads.box_predictor.bbox_pred.weight",
    "roi_heads.mask_head.mask_fcn1.weight",
    "roi_heads.mask_head.deconv.weight",
    "roi_heads.mask_head.predictor.bias",
    "sem_seg_head.p2.0.weight",
    "sem_seg_head.p2.0.norm.weight",
    "sem_seg_head.p5.4.norm.bias",
    "sem_seg_head.predictor.weight",
)


@pytest.fixture(scope="module")
def zoo_file(tmp_path_factory):
    """A checkpoint as Detectron2's model zoo has them, of Detectron2's own PanopticFPN."""
    cfg = zoo_config()
    cfg.MODEL.META_ARCHITECTURE = "PanopticFPN"
    torch.manual_seed(7)
    weights = {name: value.numpy() for name, value in build_model(cfg).state_dict().items()}
    assert set(ZOO_NAMES) <= set(weights)
    path = tmp_path_factory.mktemp("zoo") / "model_final_dbfeb4.pkl"
    with open(path, "wb") as file:
        pickle.dump({"model": weights, "__author__": "Detectron2 Model Zoo"}, file)
    return str(path), weights


def test_panoptic_fpn_of_the_zoo_loads_by_name_and_the_ranking_module_trains_alone(zoo_file):
    path, weights = zoo_file
    cfg = zoo_config()
    node = cfg.MODEL.DEEPLAB2.OANET
    node.SEMANTIC_CLASSES, node.RANKING.ALONE = "stuff_and_thing", True
    model = make_model(cfg)
    DeepLab2Checkpointer(model).load(path)
    state = model.state_dict()
    assert all(np.array_equal(state[name].numpy(), value) for name, value in weights.items())
    assert {name for name in state if name not in weights} == {
        f"ranking_head.branches.0.{k}.{part}" for k in (0, 1) for part in ("weight", "bias")
    }
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = model.train()([make_sample()])
    assert set(losses) == {"loss_ranking"}
    losses["loss_ranking"].backward()
    optimizer.step()
    assert model([make_sample()])["loss_ranking"] < losses["loss_ranking"]
    state = model.state_dict()
    assert all(np.array_equal(state[name].numpy(), value) for name, value in weights.items())


def test_stuff_of_the_zoos_channels_has_the_datasets_classes(zoo_file):
    cfg = zoo_config()
    cfg.MODEL.DEEPLAB2.OANET.SEMANTIC_CLASSES = "stuff_and_thing"
    model = make_model(cfg).eval()
    DeepLab2Checkpointer(model).load(zoo_file[0])
    cfg.MODEL.META_ARCHITECTURE = "PanopticFPN"
    detectron2 = build_model(cfg).eval()
    DeepLab2Checkpointer(detectron2).load(zoo_file[0])
    for each in (model, detectron2):
        # Few scores differ enough to be sure of; all are painted but those far below.
        each.combine_instances_score_thresh, each.combine_stuff_area_thresh = 0.3, 64
    model.is_stuff_connected, model.ranking_head = False, None
    sample = {"image": make_sample()["image"], "height": 50, "width": 70}
    with torch.no_grad():
        (ours,), (theirs,) = model([sample]), detectron2([sample])
    # Detectron2 numbers stuff as 0 = things, then stuff; the dataset has 0, 2 and 4. Its stuff
    # branch may say "thing" where ours, as the paper, has the best stuff.
    assert "sem_seg" not in ours
    segments = {s["instance_id"]: s for s in ours["panoptic_seg"][1] if s["isthing"]}
    expected = {s["instance_id"]: s for s in theirs["panoptic_seg"][1] if s["isthing"]}
    assert segments.keys() == expected.keys() and segments
    for index, segment in segments.items():
        assert segment["category_id"] == THING_IDS[expected[index]["category_id"]]
        assert segment["score"] == pytest.approx(expected[index]["score"])
        mine = ours["panoptic_seg"][0] == segment["id"]
        assert torch.equal(mine, theirs["panoptic_seg"][0] == expected[index]["id"])
    stuff = theirs["sem_seg"][1:].argmax(dim=0)
    classes = {s["id"]: s["category_id"] for s in ours["panoptic_seg"][1] if not s["isthing"]}
    painted = ours["panoptic_seg"][0]
    for segment_id, category in classes.items():
        agrees = stuff[painted == segment_id] == {0: 0, 2: 1, 4: 2}[category]
        # Probabilities, not logits, are resized.
        assert agrees.float().mean() > 0.95


@pytest.mark.parametrize("sharing", ["backbone", "none"])
def test_both_branches_start_with_the_weights_of_imagenet(sharing, tmp_path):
    # A ResNet of Detectron2's zoo has names without a prefix, which Detectron2 has to guess.
    cfg = zoo_config()
    cfg.MODEL.SEM_SEG_HEAD.NAME, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "DeepLab2OANetStuffHead", 5
    cfg.MODEL.DEEPLAB2.OANET.SHARING = sharing
    donor = make_model(cfg, seed=3).backbone.bottom_up.state_dict()
    body = {name: value.numpy() for name, value in donor.items()}
    path = tmp_path / "R-18.pkl"
    content = {"model": {**body, "fc1000.weight": np.zeros((4, 4))}, "__author__": "torchvision"}
    with open(path, "wb") as file:
        pickle.dump({**content, "matching_heuristics": True}, file)
    model = make_model(cfg)
    DeepLab2Checkpointer(model).load(str(path))
    bodies = [model.backbone.bottom_up]
    if sharing == "none":
        bodies.append(model.stuff_backbone.bottom_up)
    for loaded in bodies:
        state = loaded.state_dict()
        assert all(np.array_equal(state[name].numpy(), value) for name, value in body.items())
    # The stuff branch's pyramid is another one, and its own.
    assert model.backbone.fpn_output2.weight is not model.stuff_backbone.fpn_output2.weight
    names = [name for name in model.state_dict() if name.startswith("stuff_backbone.bottom_up.")]
    assert bool(names) == (sharing == "none")


def test_weights_of_other_classes_are_refused_with_a_table(zoo_file):
    model = make_model(make_config())
    with pytest.raises(ValueError, match="the weights do not fit the model"):
        DeepLab2Checkpointer(model).load(zoo_file[0])
