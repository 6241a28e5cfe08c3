"""
Cityscapes-DVPS-PanopticSegmentation/vip_deeplab_R_50_beta_os32_poly_120k_bs16_crop_513_1025.yaml.

    python train_net.py --config-file configs/lazy/vip_deeplab_R_50_beta_os32_cityscapes_dvps.py
"""

from detectron2.config import LazyCall as L

from deeplab2_d2.data import Layer, NextFrameTargetGenerator
from deeplab2_d2.engine.lazy_nodes import tuple_of
from deeplab2_d2.evaluation import VideoEvaluator
from deeplab2_d2.models import JointCriterion
from deeplab2_d2.models.panoptic_deeplab import LossTerm, OffsetCriterion
from deeplab2_d2.models.vip_deeplab import (
    DeepLab2ViPDeepLab,
    DepthCriterion,
    FramePairHeads,
    ViPDeepLabInference,
    frame_pair_shapes,
)

from .common.data import dataloader, images, panoptic_evaluators, targets
from .common.network import decoder, head
from .common.network import shapes as _shapes
from .common.network import values
from .common.panoptic_deeplab import class_map, model, norm
from .common.solver import adam as optimizer
from .common.solver import lr_multiplier
from .common.train import train

dataset = dict(
    train="cityscapes_dvps_panoptic_train",
    test="cityscapes_dvps_panoptic_val",
    num_classes=19,
    ignore_label=255,
)
images.update(crop_size=[513, 1025], pad_to=[1025, 2049])
train.init_checkpoint = "deeplab2://resnet50_beta_os32_panoptic_deeplab_cityscapes_trainfine"
train.max_iter = 120000
optimizer.lr = 0.00025

# Two frames one after the other through the backbone.
model._target_ = DeepLab2ViPDeepLab
model.backbone.name = "resnet50_beta"
model.pixel_mean = [127.5] * 6
model.pixel_std = [127.5] * 6
shapes = L(frame_pair_shapes)(input_shape=_shapes)
model.head._target_ = FramePairHeads
model.head.decoders.next_instance_decoder = decoder(
    128, dict(next_res3=32, next_res2=16), feature="both_res5"
)
model.head.heads.depth = head(
    *("depth", "depth", 1, "semantic_decoder", "depth_head", 64),
    upsampling=2,
    value_range=values(0.0, 88.0),
)
model.head.heads.next_offset = head(
    "next_center_offsets", "offset", 2, "next_instance_decoder", "next_offset_head", 32
)
model.head.new_parts = values("next_instance_decoder", "next_offset_head", "depth_head")
model.criterion = L(JointCriterion)(
    parts=L(tuple_of)(
        panoptic=model.criterion,
        next_offset=L(OffsetCriterion)(
            name="next_center_offsets",
            weights="next_offset_weights",
            loss="loss_next_offset",
            term=L(LossTerm)(weight=0.01, top_k=1.0),
        ),
        depth=L(DepthCriterion)(weight=0.1),
    )
)
model.inference = L(ViPDeepLabInference)(
    panoptic=model.inference,
    outputs=values("sem_seg", "panoptic_seg", "instances", "track", "depth"),
)
_next_image = L(Layer)(
    name="next_image", file_keys=values("next_file_name", "file_name"), kind="image"
)
dataloader["train"].total_batch_size = 16
dataloader["train"].mapper.update(
    target_generator=L(NextFrameTargetGenerator)(panoptic=targets),
    layers=L(tuple_of)(
        next_image=_next_image,
        depth=L(Layer)(name="depth", file_keys=values("depth_file_name"), kind="depth"),
    ),
)
dataloader["test"].mapper.layers = L(tuple_of)(next_image=_next_image)
dataloader["evaluator"] = [
    *panoptic_evaluators,
    L(VideoEvaluator)(dataset_name="${dataset.test}", has_depth=True),
]
