"""
KITTI-STEP-PanopticSegmentation/motion_deeplab_R_50_os32_poly_50k_bs32_crop_385_1249.yaml.

    python train_net.py --config-file configs/lazy/motion_deeplab_R_50_os32_kitti_step.py
"""

from detectron2.config import LazyCall as L

from deeplab2_d2.data import Layer, PreviousFrameTargetGenerator
from deeplab2_d2.engine.lazy_nodes import tuple_of
from deeplab2_d2.evaluation import VideoEvaluator
from deeplab2_d2.models import JointCriterion
from deeplab2_d2.models.motion_deeplab import DeepLab2MotionDeepLab, MotionDeepLabInference
from deeplab2_d2.models.panoptic_deeplab import LossTerm, OffsetCriterion

from .common.data import dataloader, images, panoptic_evaluators, targets
from .common.network import head, values
from .common.panoptic_deeplab import class_map, model, norm, shapes
from .common.solver import adam as optimizer
from .common.solver import lr_multiplier
from .common.train import train

dataset = dict(
    train="kitti_step_panoptic_train",
    test="kitti_step_panoptic_val",
    num_classes=19,
    ignore_label=255,
)
images.update(crop_size=[385, 1249], pad_to=[385, 1249])
train.init_checkpoint = (
    "deeplab2://resnet50_os32_panoptic_deeplab_cityscapes_crowd_trainfine_netsurgery_first_layer"
)
train.max_iter = 50000
train.checkpointer.period = 500
optimizer.lr = 0.0001

# A frame, the frame before, and a heatmap of its centers.
model._target_ = DeepLab2MotionDeepLab
model.backbone.in_channels = 7
model.pixel_mean = [127.5] * 7
model.pixel_std = [127.5] * 7
model.head.heads.motion = head("frame_offsets", "offset", 2, "instance_decoder", "motion_head", 32)
model.head.new_parts = values("motion_head")
model.criterion = L(JointCriterion)(
    parts=L(tuple_of)(
        panoptic=model.criterion,
        motion=L(OffsetCriterion)(
            name="frame_offsets",
            weights="frame_offset_weights",
            loss="loss_motion",
            term=L(LossTerm)(weight=0.01, top_k=1.0),
        ),
    )
)
model.inference.stuff_area_limit = 0
model.inference = L(MotionDeepLabInference)(
    panoptic=model.inference,
    sigma=8,
    keep_frames=7,
    outputs=values("sem_seg", "panoptic_seg", "instances", "track"),
)
_layers = L(tuple_of)(
    previous=L(Layer)(
        name="previous_image", file_keys=values("previous_file_name", "file_name"), kind="image"
    )
)
dataloader["train"].mapper.update(
    target_generator=L(PreviousFrameTargetGenerator)(panoptic=targets), layers=_layers
)
dataloader["test"].mapper.layers = _layers
dataloader["evaluator"] = [
    *panoptic_evaluators,
    L(VideoEvaluator)(dataset_name="${dataset.test}"),
]
