"""DeepLab v1 to v3+: one feature, one decoder, cross-entropy."""

from detectron2.config import LazyCall as L

from deeplab2_d2.data import PanopticTargetGenerator
from deeplab2_d2.layers import Norm
from deeplab2_d2.models.deeplab import (
    ClassifierSpec,
    DeepLab2DeepLabV2,
    DeepLab2DeepLabV3Plus,
    SemanticCriterion,
    SemanticInference,
    SummedClassifiers,
    V3PlusDecoder,
)

from .data import crop, dataloader, flip, images, random_scale, semantic_evaluator
from .network import backbone, class_map, decoder, norm, shapes, values

dataset = dict(
    train="pascal_voc_2012_train_aug", test="pascal_voc_2012_val", num_classes=21, ignore_label=255
)
images.update(crop_size=[513, 513], pad_to=[513, 513])
dataloader["evaluator"] = [semantic_evaluator]
_mapper = dataloader["train"].mapper
_mapper.target_generator = L(PanopticTargetGenerator)(
    ignore_label="${dataset.ignore_label}", has_instances=False
)
_mapper.augmentations = [random_scale(0.5, 2.0, 0.25), crop, flip]

# Those of the head; the backbone's are `norm`.
head_norm = L(Norm)(name="${norm.name}", epsilon=1e-5, momentum="${norm.momentum}")

_shared = dict(
    backbone=backbone,
    criterion=L(SemanticCriterion)(
        ignore_label="${dataset.ignore_label}", class_map="${class_map}", shrinks_labels=False
    ),
    inference=L(SemanticInference)(class_map="${class_map}", outputs=values("sem_seg")),
    output_stride="${model.backbone.output_stride}",
    pixel_mean=[127.5, 127.5, 127.5],
    pixel_std=[127.5, 127.5, 127.5],
    pad_to="${images.pad_to}",
)

v3_plus = L(DeepLab2DeepLabV3Plus)(
    head=L(V3PlusDecoder)(
        input_shape="${shapes}",
        decoder=decoder(256, dict(res2=48), aspp_conv_type="depthwise_separable_conv"),
        num_classes="${dataset.num_classes}",
        norm="${head_norm}",
    ),
    **_shared,
)

v2 = L(DeepLab2DeepLabV2)(
    head=L(SummedClassifiers)(
        input_shape="${shapes}",
        spec=L(ClassifierSpec)(
            feature="res5",
            rates=values(6, 12, 18, 24),
            hidden_channels=1024,
            averages_feature=False,
        ),
        num_classes="${dataset.num_classes}",
    ),
    scales=[],
    **_shared,
)
v2.criterion.shrinks_labels = True
