"""Panoptic-DeepLab; the models of videos and Axial-DeepLab begin with it."""

from detectron2.config import LazyCall as L

from deeplab2_d2.engine.lazy_nodes import dict_of, label_divisor, thing_ids, tuple_of
from deeplab2_d2.heads import DenseHeads
from deeplab2_d2.models.panoptic_deeplab import (
    DeepLab2PanopticDeepLab,
    LossTerm,
    PanopticDeepLabCriterion,
    PanopticDeepLabInference,
)

from .network import backbone, class_map, decoder, head, norm, shapes, values

model = L(DeepLab2PanopticDeepLab)(
    backbone=backbone,
    head=L(DenseHeads)(
        decoders=L(dict_of)(
            semantic_decoder=decoder(256, dict(res3=64, res2=32)),
            instance_decoder=decoder(128, dict(res3=32, res2=16)),
        ),
        heads=L(tuple_of)(
            semantic=head(
                *("semantic_logits", "logits", "${dataset.num_classes}"),
                *("semantic_decoder", "semantic_head", 256),
            ),
            center=head("center_heatmap", "heatmap", 1, "instance_decoder", "center_head", 32),
            offset=head("center_offsets", "offset", 2, "instance_decoder", "offset_head", 32),
        ),
        input_shape="${shapes}",
        norm="${norm}",
    ),
    criterion=L(PanopticDeepLabCriterion)(
        ignore_label="${dataset.ignore_label}",
        class_map="${class_map}",
        semantic=L(LossTerm)(weight=1.0, top_k=0.2),
        center=L(LossTerm)(weight=200.0, top_k=1.0),
        offset=L(LossTerm)(weight=0.01, top_k=1.0),
    ),
    inference=L(PanopticDeepLabInference)(
        class_map="${class_map}",
        thing_ids=L(thing_ids)(dataset="${dataset.train}"),
        label_divisor=L(label_divisor)(dataset="${dataset.train}"),
        center_threshold=0.1,
        nms_kernel=13,
        top_k_centers=400,
        stuff_area_limit=2048,
        outputs=values("sem_seg", "panoptic_seg", "instances"),
    ),
    output_stride="${model.backbone.output_stride}",
    pixel_mean=[127.5, 127.5, 127.5],
    pixel_std=[127.5, 127.5, 127.5],
    pad_to="${images.pad_to}",
)
