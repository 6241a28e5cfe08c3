"""
COCO-PanopticSegmentation/oanet_R_50_os32_step_100k_bs16_short_800_long_1333.yaml.

    python train_net.py --config-file configs/lazy/oanet_R_50_os32_coco.py
"""

from detectron2.config import LazyCall as L
from detectron2.data import transforms as T
from detectron2.layers import ShapeSpec

from deeplab2_d2.data import InstancePanopticMapper
from deeplab2_d2.engine.lazy_nodes import classes_of, dict_of, label_divisor, thing_ids
from deeplab2_d2.models.oanet import (
    DeepLab2OANet,
    DeepLab2OANetStuffHead,
    DeepLab2SpatialRankingHead,
    RankingCriterion,
    StuffChannels,
)

from .common.data import dataloader, panoptic_evaluators
from .common.panoptic_fpn import backbone, proposal_generator, roi_heads
from .common.solver import lr_multiplier
from .common.solver import sgd as optimizer
from .common.train import train

dataset = dict(
    train="coco_2017_train_panoptic_instances",
    test="coco_2017_val_panoptic_instances",
    num_classes=133,
    ignore_label=255,
)
images = dict(format="BGR", short=800, long=1333)
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.max_iter = 100000
train.eval_period = 0
train.checkpointer.period = 5000
optimizer.lr = 0.02
optimizer.params.weight_decay = 0.0001
lr_multiplier.update(
    schedule="step", steps=[60000, 80000], gamma=0.1, warmup_iters=2000, warmup_factor=0.1
)
del lr_multiplier["poly_power"]

model = L(DeepLab2OANet)(
    backbone=backbone,
    proposal_generator=proposal_generator,
    roi_heads=roi_heads,
    sem_seg_head=L(DeepLab2OANetStuffHead)(
        input_shape=L(dict_of)(
            p2=L(ShapeSpec)(channels=256, stride=4),
            p3=L(ShapeSpec)(channels=256, stride=8),
            p4=L(ShapeSpec)(channels=256, stride=16),
            p5=L(ShapeSpec)(channels=256, stride=32),
        ),
        num_classes="${dataset.num_classes}",
        channels=128,
        stride=4,
        norm="GN",
        loss_weight=0.25,
        ignore_label="${dataset.ignore_label}",
    ),
    combine_overlap_thresh=0.5,
    combine_stuff_area_thresh=4900,
    combine_instances_score_thresh=0.5,
    stuff_channels=L(StuffChannels)(classes=L(classes_of)(dataset="${dataset.train}"), kind="all"),
    ranking_head=L(DeepLab2SpatialRankingHead)(
        num_classes="${model.roi_heads.num_classes}", kernel_size=7, layout="sequence", stride=1
    ),
    ranking_criterion=L(RankingCriterion)(
        thing_ids=L(thing_ids)(dataset="${dataset.train}"), conflicts="instances", weight=1.0
    ),
    outputs=["sem_seg", "panoptic_seg", "instances"],
    input_format="${images.format}",
    pixel_mean=[103.53, 116.28, 123.675],
    pixel_std=[1.0, 1.0, 1.0],
)

_resize = L(T.ResizeShortestEdge)(max_size="${images.long}", sample_style="choice")
_train_resize, _test_resize = _resize.copy(), _resize.copy()
_train_resize.short_edge_length = ["${images.short}"]
_test_resize.short_edge_length = ["${images.short}", "${images.short}"]
dataloader["train"].update(
    total_batch_size=16,
    mapper=L(InstancePanopticMapper)(
        is_train=True,
        augmentations=[_train_resize, L(T.RandomFlip)(horizontal=True, vertical=False)],
        image_format="${images.format}",
        num_classes="${dataset.num_classes}",
        thing_ids=L(thing_ids)(dataset="${dataset.train}"),
        label_divisor=L(label_divisor)(dataset="${dataset.train}"),
        ignore_label="${dataset.ignore_label}",
        skips_empty=True,
    ),
)
dataloader["test"].mapper = L(InstancePanopticMapper)(
    is_train=False, augmentations=[_test_resize], image_format="${images.format}"
)
dataloader["evaluator"] = panoptic_evaluators
