"""The ranking module orders the instances of models that know nothing of it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from detectron2.structures import Instances
from tiny_oanet import STUFF_IDS, make_config

from deeplab2_d2.engine import load_config
from deeplab2_d2.models.oanet import (
    DeepLab2SpatialRankingHead,
    merge_instances_and_stuff,
    rank_instances,
)

SHAPES = "configs/Shapes-PanopticSegmentation/max_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml"
SIZE, NUM_THINGS = (65, 97), 4


def detectron2_instances(name, image):
    """Of Detectron2's own model, untrained: any score counts."""
    cfg = make_config()
    cfg.MODEL.META_ARCHITECTURE = name
    cfg.MODEL.SEM_SEG_HEAD.NAME = "SemSegFPNHead"
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    return build_model(cfg).eval()([{"image": image}])[0]["instances"]


def max_deeplab_instances(image):
    """The mask slots of things before any is pasted: a pixel belongs to its two strongest slots."""
    model = build_model(load_config(str(Path(__file__).resolve().parents[3] / SHAPES), [])).eval()
    prediction = model.predict(model.batch([{"image": image}]).tensor)
    logits = F.interpolate(prediction["mask_logits"], SIZE, mode="bilinear")[0]
    instances = Instances(SIZE)
    instances.pred_masks = logits >= logits.topk(2, dim=0).values[1]
    things = prediction["class_logits"][0].softmax(dim=1)[:, :NUM_THINGS]
    instances.scores, instances.pred_classes = things.max(dim=1)
    return instances


@pytest.mark.parametrize("name", ["PanopticFPN", "GeneralizedRCNN", "MaX-DeepLab"])
def test_each_pixel_has_the_instance_with_the_highest_mean_probability_of_its_class(name):
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, *SIZE)).float()
    with torch.no_grad():
        is_max = name == "MaX-DeepLab"
        instances = max_deeplab_instances(image) if is_max else detectron2_instances(name, image)
    assert len(instances) > 1
    masks, classes = instances.pred_masks, instances.pred_classes
    head = DeepLab2SpatialRankingHead(num_classes=int(classes.max()) + 1, kernel_size=3)
    ranks = rank_instances(masks, classes, head, SIZE)
    # Eq. 3 by hand.
    drawn = torch.stack([masks[classes == k].any(dim=0) for k in range(head.num_classes)])
    with torch.no_grad():
        on_top = head(drawn[None].float())[0].softmax(dim=0)
    expected = [
        float(on_top[k][mask].mean()) if mask.any() else 0.0 for mask, k in zip(masks, classes)
    ]
    assert ranks.tolist() == pytest.approx(expected, abs=1e-5)
    # Any semantic map goes with them; here stuff of one class.
    panoptic_map, segments = merge_instances_and_stuff(
        instances,
        torch.full(SIZE, STUFF_IDS[2]),
        stuff_ids=STUFF_IDS,
        rank_scores=ranks,
        score_threshold=0.0,
        overlap_threshold=1.0,
        stuff_area_limit=1,
    )
    index = {s["id"]: s["instance_id"] for s in segments if s["isthing"]}
    painted = torch.tensor([index.get(k, -1) for k in panoptic_map.flatten().tolist()]).view(SIZE)
    key = torch.where(masks, ranks[:, None, None], -1.0)
    is_thing = masks.any(dim=0)
    assert torch.equal(painted >= 0, is_thing)
    shown = torch.gather(key, 0, painted.clamp(min=0)[None])[0]
    assert torch.equal(shown[is_thing], key.amax(dim=0)[is_thing])
