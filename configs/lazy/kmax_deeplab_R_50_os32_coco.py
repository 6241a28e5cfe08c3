"""
COCO-PanopticSegmentation/kmax_deeplab_R_50_os32_poly_150k_bs64_crop_1281_1281.yaml.

    python train_net.py --config-file configs/lazy/kmax_deeplab_R_50_os32_coco.py
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from deeplab2_d2.data.augmentation import RandomCropOrPad
from deeplab2_d2.data.autoaugment import AutoAugment
from deeplab2_d2.data.copy_paste import PADDING, PanopticCopyPaste
from deeplab2_d2.engine.lazy_nodes import endpoint_shapes, with_endpoints, with_shapes
from deeplab2_d2.models.kmax_deeplab import (
    DeepLab2KMaXDeepLab,
    KMaXDeepLabHead,
    LayerPredictor,
    PixelDecoder,
    TransformerDecoder,
    TransformerSpec,
    decoded_shapes,
)
from deeplab2_d2.structures import MemoryShape

from .common.coco import dataloader, dataset, images
from .common.coco import resize as _resize
from .common.data import crop as _crop
from .common.data import flip as _flip
from .common.data import random_scale
from .common.max_deeplab import class_map, model, norm
from .common.max_deeplab import targets as _targets
from .common.network import backbone as _backbone
from .common.network import values
from .common.solver import adamw as optimizer
from .common.solver import lr_multiplier
from .common.train import train

train.init_checkpoint = "deeplab2://resnet50_imagenet1k_strong_training_strategy"
train.max_iter = 150000
images.side = 1281

# Features before their activation for the pixel decoder, after it for the auxiliary branch.
_endpoints = [f"{prefix}{number}" for number in (2, 3, 4, 5) for prefix in ("stage", "res")]
_widths = [512, 256, 128, 64]
shapes = L(endpoint_shapes)(
    name="${model.backbone.backbone.name}",
    output_stride="${model.backbone.backbone.output_stride}",
    width_multiplier="${model.backbone.backbone.width_multiplier}",
    names=_endpoints,
)
model._target_ = DeepLab2KMaXDeepLab
model.backbone = L(with_endpoints)(backbone=_backbone, names=_endpoints)
model.head.update(
    _target_=KMaXDeepLabHead,
    input_shape=L(with_shapes)(
        shapes="${shapes}",
        feature_panoptic=L(ShapeSpec)(channels=4 * _widths[-1], stride=4),
        feature_semantic="stage5",
    ),
    memory_shape=L(MemoryShape)(num_slots=128, class_channels=256, mask_channels=256),
    pixel_decoder=L(PixelDecoder)(
        input_shape="${shapes}",
        features=values("stage5", "stage4", "stage3", "stage2"),
        widths=_widths,
        num_blocks=[1, 5, 1, 1],
        norm="${norm}",
        atrous_rate=2,
    ),
    transformer_decoder=L(TransformerDecoder)(
        pixel_shapes=L(decoded_shapes)(widths="${model.head.pixel_decoder.widths}"),
        spec=L(TransformerSpec)(num_layers=values(2, 2, 2), drop_path_keep_prob=0.8),
        build_predictor=L(LayerPredictor)(
            num_classes="${dataset.num_classes}",
            pixel_channels="${model.head.pixel_channels}",
            channels="${model.head.pixel_head.channels}",
            conv_type="depthwise_separable_conv",
            norm="${norm}",
        ),
        norm="${norm}",
    ),
)
for _part in (model.head.pixel_head, model.head.semantic_head, model.head.semantic_decoder):
    _part.activation = "gelu"
model.head.pixel_head.in_channels.shapes = "${model.head.input_shape}"
model.head.semantic_decoder.input_shape = "${model.head.input_shape}"
model.head.semantic_decoder.spec.update(
    input_shape="${model.head.input_shape}", atrous_rates=[6, 12, 18]
)
model.criterion.options.update(num_samples=4096, sample_temperature=1.5)
model.inference.options.update(
    mode="maskwise",
    thing_class_threshold=0.7,
    stuff_class_threshold=0.5,
    overlap_threshold=0.8,
    class_weight=1.0,
    mask_weight=1.0,
    thing_area_limit=400,
    stuff_area_limit=6400,
)

_colors = L(AutoAugment)(policy="simple_classification_policy", magnitude=1.0)
_pad = L(RandomCropOrPad)(crop_size="${images.crop_size}", segment_pad_value=PADDING)
dataloader["train"].mapper.update(
    target_generator=_targets,
    augmentations=[_resize, random_scale(0.3, 1.7, 0.1), _colors, _crop, _flip],
    copy_paste=L(PanopticCopyPaste)(thing="all", stuff="random", void="none"),
    # Half the scale.
    paste_augmentations=[_resize, random_scale(0.15, 0.85, 0.1), _colors, _pad, _flip],
)
optimizer.lr = 0.0005
optimizer.params.update(weight_decay=0.05, backbone_multiplier=0.1)
lr_multiplier.warmup_iters = 5000
