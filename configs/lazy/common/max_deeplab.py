"""MaX-DeepLab's heads, losses, post-processing and targets."""

from detectron2.config import LazyCall as L

from deeplab2_d2.data import MaskTargetGenerator
from deeplab2_d2.engine.lazy_nodes import (
    backbone_memory,
    backbone_shapes,
    channels_of,
    label_divisor,
    stuff_ids,
    thing_ids,
    with_memory,
)
from deeplab2_d2.heads import Decoder, PredictionHead
from deeplab2_d2.losses import MaskTransformerLossOptions
from deeplab2_d2.models.max_deeplab import (
    DeepLab2MaXDeepLab,
    MaXDeepLabCriterion,
    MaXDeepLabHead,
    MaXDeepLabInference,
)
from deeplab2_d2.postprocessing import SlotOptions

from .network import backbone, class_map, decoder, norm, values

_network = dict(
    name="${model.backbone.backbone.name}",
    output_stride="${model.backbone.backbone.output_stride}",
    width_multiplier="${model.backbone.backbone.width_multiplier}",
)
shapes = L(backbone_shapes)(**_network)

model = L(DeepLab2MaXDeepLab)(
    backbone=L(with_memory)(backbone=backbone),
    head=L(MaXDeepLabHead)(
        input_shape="${shapes}",
        memory_shape=L(backbone_memory)(**_network),
        num_classes="${dataset.num_classes}",
        pixel_head=L(PredictionHead)(
            in_channels=L(channels_of)(shapes="${shapes}", feature="feature_panoptic"),
            channels=256,
            out_channels="${..pixel_channels}",
            norm="${norm}",
        ),
        pixel_channels=128,
        norm="${norm}",
        semantic_head=L(PredictionHead)(
            in_channels="${..semantic_decoder.spec.channels}",
            channels=256,
            out_channels="${dataset.num_classes}",
            norm="${norm}",
        ),
        semantic_decoder=L(Decoder)(
            spec=decoder(256, dict(res3=64, res2=32), feature="feature_semantic"),
            input_shape="${shapes}",
            norm="${norm}",
        ),
    ),
    criterion=L(MaXDeepLabCriterion)(
        ignore_label="${dataset.ignore_label}",
        class_map="${class_map}",
        thing_ids=L(thing_ids)(dataset="${dataset.train}"),
        stuff_ids=L(stuff_ids)(dataset="${dataset.train}"),
        options=L(MaskTransformerLossOptions)(semantic_weight=1.0, semantic_top_k=1.0),
    ),
    inference=L(MaXDeepLabInference)(
        class_map="${class_map}",
        thing_ids=L(thing_ids)(dataset="${dataset.train}"),
        label_divisor=L(label_divisor)(dataset="${dataset.train}"),
        options=L(SlotOptions)(
            mode="pixelwise",
            class_confidence_threshold=0.7,
            mask_confidence_threshold=0.4,
            thing_area_limit=100,
            stuff_area_limit=1600,
        ),
        outputs=values("sem_seg", "panoptic_seg", "instances"),
    ),
    output_stride="${model.backbone.backbone.output_stride}",
    pixel_mean=[127.5, 127.5, 127.5],
    pixel_std=[127.5, 127.5, 127.5],
    pad_to="${images.pad_to}",
)

targets = L(MaskTargetGenerator)(
    ignore_label="${dataset.ignore_label}",
    max_things=128,
    small_instance_area=4096,
    small_instance_weight=1.0,
)
