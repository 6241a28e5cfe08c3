"""The whole network: its losses, what they teach, its outputs, and what it refuses."""

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from tiny_oanet import STUFF_IDS, THING_IDS, empty_instances, make_config, make_model, make_sample

from deeplab2_d2.config import validate_config
from deeplab2_d2.models.oanet import StuffChannels, rank_instances
from deeplab2_d2.models.oanet.sharing import build_stuff_backbone

DETECTOR_LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"}


def train(model, *samples):
    torch.manual_seed(1)
    with EventStorage():
        return model.train()(list(samples))


def names_with_gradient(model, loss):
    model.zero_grad()
    loss.backward(retain_graph=True)
    parts = set()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and parameter.grad.abs().sum() > 0:
            parts.add(name.split(".")[0])
    return parts


@pytest.mark.parametrize("masks", ["truth", "predicted"])
@pytest.mark.parametrize("stride", [1, 4])
def test_ranking_loss_reaches_the_ranking_module_alone(masks, stride):
    model = make_model(make_config(ranking_masks=masks, ranking_stride=stride))
    model.combine_instances_score_thresh = 0.0
    losses = train(model, make_sample(), make_sample(80, 70))
    assert set(losses) == DETECTOR_LOSSES | {"loss_sem_seg", "loss_ranking"}
    assert losses["loss_ranking"] > 0
    assert names_with_gradient(model, losses["loss_ranking"]) == {"ranking_head"}
    assert names_with_gradient(model, losses["loss_sem_seg"]) == {"backbone", "sem_seg_head"}
    assert model.roi_heads.training and model.backbone.training


def test_lambda_is_a_factor_on_the_loss_of_stuff_alone():
    totals = {}
    for weight in (0.25, 1.0):
        cfg = make_config()
        cfg.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT = weight
        totals[weight] = train(make_model(cfg), make_sample())
    assert totals[1.0]["loss_sem_seg"] == 4 * totals[0.25]["loss_sem_seg"]
    for name in DETECTOR_LOSSES | {"loss_ranking"}:
        assert totals[1.0][name] == totals[0.25][name]


@pytest.mark.parametrize(
    "sharing, shared, alone",
    [
        ("pyramid", True, set()),
        ("backbone", True, {"fpn_"}),
        ("none", False, {"fpn_", "bottom_up"}),
    ],
)
def test_stuff_loss_teaches_what_the_branches_share(sharing, shared, alone):
    model = make_model(make_config(sharing=sharing))
    losses = train(model, make_sample())
    model.zero_grad()
    losses["loss_sem_seg"].backward()
    taught = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }
    assert any(name.startswith("backbone.bottom_up.") for name in taught) is shared
    in_shared_pyramid = any(name.startswith("backbone.fpn_") for name in taught)
    assert in_shared_pyramid is (sharing == "pyramid")
    own = {name[len("stuff_backbone.") :] for name in taught if name.startswith("stuff_backbone.")}
    assert {word for word in ("fpn_", "bottom_up") if any(n.startswith(word) for n in own)} == alone


def test_stuff_channels_follow_table_2():
    # Classes 1 and 3 are things; 255 is unlabeled.
    truth = torch.tensor([0, 1, 2, 3, 4, 255])
    probability = torch.tensor([0.2, 0.7, 0.1])[:, None, None]
    expected = {
        "all": (5, (0, 2, 4), [0, 1, 2, 3, 4, 255]),
        "stuff": (3, (0, 1, 2), [0, 255, 1, 255, 2, 255]),
        "stuff_and_thing": (4, (1, 2, 3), [1, 0, 2, 0, 3, 255]),
    }
    for kind, (count, stuff, targets) in expected.items():
        cfg = make_config(semantic_classes=kind)
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = count
        channels = StuffChannels.from_config(cfg)
        assert channels.stuff_channels == stuff
        assert channels.targets(truth).tolist() == targets
        assert channels.stuff_map(probability).tolist() == [[2]]


def test_stuff_of_detectron2s_panoptic_fpn_is_in_the_order_of_cocos_classes():
    # Its 54 channels are things, then stuff, numbered as Detectron2's "separated" set says.
    cfg = make_config(semantic_classes="stuff_and_thing")
    cfg.DATASETS.TRAIN = ("coco_2017_train_panoptic_instances",)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 80, 54
    channels = StuffChannels.from_config(cfg)
    separated = MetadataCatalog.get("coco_2017_val_panoptic_separated")
    to_channel = separated.stuff_dataset_id_to_contiguous_id
    classes = torch.tensor([k for k in channels.classes.category_ids.values()])
    expected = [to_channel.get(category, 0) for category in channels.classes.category_ids]
    assert channels.targets(classes).tolist() == expected and max(expected) == 53


def made_up_outputs(size):
    """Logits of five classes on a 64x96 input, and three detections, two of them sure."""
    logits = torch.full((5, 64, 96), -4.0)
    # A thing class is highest everywhere; of stuff, class 0 on the left and class 4 on the right.
    logits[1], logits[0, :, :48], logits[4, :, 48:] = 5.0, 2.0, 2.0
    detected = Instances(size)
    boxes = torch.tensor([[8.0, 8, 56, 56], [24, 24, 40, 40], [60, 10, 90, 50]])
    detected.pred_boxes, detected.pred_classes = Boxes(boxes), torch.tensor([0, 1, 0])
    detected.scores = torch.tensor([0.95, 0.6, 0.3])
    detected.pred_masks = torch.ones(3, 1, 28, 28)
    return logits, detected


def test_outputs_have_contiguous_classes_stuff_of_stuff_channels_and_both_scores():
    model = make_model(make_config()).eval()

    class TiesOnTop(torch.nn.Module):
        num_classes, stride = 2, 1

        def forward(self, drawn):
            return drawn * torch.tensor([0.0, 5.0])[:, None, None]

    model.ranking_head = TiesOnTop()
    model.combine_stuff_area_thresh = 100
    logits, detected = made_up_outputs((64, 96))
    output = model.postprocess(logits, detected, {"height": 64, "width": 96}, (64, 96))
    panoptic_map, segments = output["panoptic_seg"]
    things = [segment for segment in segments if segment["isthing"]]
    assert [(s["category_id"], s["instance_id"]) for s in things] == [(3, 1), (1, 0)]
    assert [s["score"] for s in things] == pytest.approx([0.6, 0.95])
    # The small one: e^5 / (1 + e^5). The large one: 1/2 outside of it, 1 / (1 + e^5) inside; its
    # 48x48 pixels have 16x16 of the small one.
    inside = 1 / (1 + torch.tensor(5.0).exp().item())
    large = (256 * inside + (48**2 - 256) * 0.5) / 48**2
    assert [s["rank_score"] for s in things] == pytest.approx([1 - inside, large], abs=1e-5)
    assert (panoptic_map == 1).sum() == 256 and (panoptic_map == 2).sum() == 48**2 - 256
    stuff = {s["category_id"]: s["area"] for s in segments if not s["isthing"]}
    # 48 columns each, without the things: 40 of 48 columns on the left, 8 on the right.
    assert stuff == {0: 64 * 48 - 48 * 40, 4: 64 * 48 - 48 * 8}
    assert output["instances"].pred_classes.tolist() == [1, 3, 1]
    assert torch.equal(output["sem_seg"], logits)
    # By detection score nothing is left of the small one.
    model.ranking_head = None
    logits, detected = made_up_outputs((64, 96))
    _, segments = model.postprocess(logits, detected, {}, (64, 96))["panoptic_seg"]
    assert [s["instance_id"] for s in segments if s["isthing"]] == [0]
    assert all("rank_score" not in segment for segment in segments)


def test_no_instance_many_instances_and_an_image_of_one_color():
    cfg = make_config()
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 200
    model = make_model(cfg).eval()
    model.combine_stuff_area_thresh = 1
    model.is_stuff_connected = False
    image = {"image": torch.full((3, 61, 83), 128.0), "height": 31, "width": 40}
    with torch.no_grad():
        (result,) = model([image])
        # No score reaches one half in an untrained network.
        assert all(not segment["isthing"] for segment in result["panoptic_seg"][1])
        assert (result["panoptic_seg"][0] > 0).all()
        assert {s["category_id"] for s in result["panoptic_seg"][1]} <= set(STUFF_IDS)
        # More than the paper's 100, all painted.
        model.combine_instances_score_thresh = 0.0
        model.roi_heads.box_predictor.test_topk_per_image = 150
        (result,) = model([image])
    assert len(result["instances"]) > 100
    things = [s for s in result["panoptic_seg"][1] if s["isthing"]]
    assert things and {s["category_id"] for s in things} <= set(THING_IDS)
    ranks = [s["rank_score"] for s in things]
    assert ranks == sorted(ranks, reverse=True)


def test_any_models_instances_can_be_ranked():
    model = make_model(make_config()).eval()
    instances = Instances((64, 96))
    masks = make_sample()["instances"].gt_masks.tensor
    instances.pred_masks, instances.pred_classes = masks, torch.tensor([0, 1])
    ranks = rank_instances(
        instances.pred_masks, instances.pred_classes, model.ranking_head, (64, 96)
    )
    # The same, by the model's own way through Eq. 3.
    with torch.no_grad():
        probability = model.ranking_head(masks[None].float())[0].softmax(dim=0)
    expected = [probability[k][masks[k]].mean().item() for k in (0, 1)]
    assert ranks.tolist() == pytest.approx(expected, abs=1e-6)


def test_an_image_without_instances_or_with_empty_masks_trains():
    sample = make_sample()
    empty = {**sample, "instances": empty_instances(64, 96)}
    hollow = {**sample, "instances": sample["instances"][:]}
    hollow["instances"].gt_masks = BitMasks(torch.zeros(2, 64, 96, dtype=torch.bool))
    unlabeled = {**empty, "sem_seg": torch.full((64, 96), 255)}
    for each in (empty, hollow, unlabeled):
        losses = train(make_model(make_config()), each)
        assert all(loss.isfinite() for loss in losses.values())
        assert losses["loss_ranking"] == 0


def test_samples_without_one_of_the_two_truths_or_of_other_sizes_are_refused():
    model, sample = make_model(make_config()), make_sample()
    for key in ("instances", "sem_seg"):
        incomplete = {name: value for name, value in sample.items() if name != key}
        with pytest.raises(ValueError, match=f"a.png: a training sample must have '{key}'"):
            train(model, incomplete)
    with pytest.raises(ValueError, match=r"a.png: sizes must be the image's \(64, 96\), got"):
        train(model, {**sample, "sem_seg": sample["sem_seg"][:32]})


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("MODEL.ROI_HEADS.NUM_CLASSES", 80, "ROI_HEADS.NUM_CLASSES must be 2, the things of"),
        ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 54, "SEM_SEG_HEAD.NUM_CLASSES must be 5 for 'all'"),
        ("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", 0, "IGNORE_VALUE must be 255, the ignore_label"),
        ("MODEL.DEEPLAB2.OANET.SHARING", "fpn", "SHARING must be one of 'pyramid', 'backbone'"),
        ("MODEL.DEEPLAB2.OANET.SEMANTIC_CLASSES", "x", "SEMANTIC_CLASSES must be one of 'all'"),
        ("MODEL.DEEPLAB2.OANET.RANKING.KERNEL", 4, "KERNEL must be odd and positive, got 4"),
        ("MODEL.DEEPLAB2.OANET.RANKING.LAYOUT", "x", "LAYOUT must be one of 'square'"),
        ("MODEL.DEEPLAB2.OANET.RANKING.STRIDE", 0, "STRIDE must be at least 1, got 0"),
        ("MODEL.DEEPLAB2.OANET.RANKING.MASKS", "gt", "MASKS must be one of 'truth'"),
        ("MODEL.DEEPLAB2.OANET.RANKING.CONFLICTS", "x", "CONFLICTS must be one of"),
        ("MODEL.DEEPLAB2.OANET.RANKING.LOSS_WEIGHT", 0.0, "LOSS_WEIGHT must be positive"),
        ("MODEL.MASK_ON", False, "MASK_ON must be True"),
    ],
)
def test_wrong_values_are_refused_by_name(key, value, message):
    cfg = make_config()
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=message):
        validate_config(cfg)
        StuffChannels.from_config(cfg)
    cfg = make_config(ranking_module="", ranking_alone=True)
    with pytest.raises(ValueError, match="ALONE must be False where there is no ranking module"):
        validate_config(cfg)


def test_a_backbone_without_a_pyramid_cannot_be_shared_without_its_pyramid():
    cfg = make_config(sharing="backbone")
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    with pytest.raises(ValueError, match="SHARING must be 'pyramid' or 'none' .* got 'backbone'"):
        build_stuff_backbone(cfg)


def test_the_stuff_heads_finest_level_must_have_its_stride():
    cfg = make_config()
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["p3", "p4"]
    with pytest.raises(ValueError, match=r"must have the stride 4, got \{'p3': 8, 'p4': 16\}"):
        make_model(cfg)
