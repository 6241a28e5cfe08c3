"""Detectron2's Mask R-CNN with a pyramid on a ResNet: the parts that OANet has of it."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone import FPN, BasicStem, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    MaskRCNNConvUpsampleHead,
    StandardROIHeads,
)

from deeplab2_d2.engine.lazy_nodes import dict_of

levels = ["p2", "p3", "p4", "p5"]
_channels = 256
_norm = "FrozenBN"

backbone = L(FPN)(
    bottom_up=L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=64, norm=_norm),
        stages=L(ResNet.make_default_stages)(depth=50, stride_in_1x1=True, norm=_norm),
        out_features=["res2", "res3", "res4", "res5"],
        freeze_at=2,
    ),
    in_features=["res2", "res3", "res4", "res5"],
    out_channels=_channels,
    top_block=L(LastLevelMaxPool)(),
)

proposal_generator = L(RPN)(
    in_features=[*levels, "p6"],
    head=L(StandardRPNHead)(in_channels=_channels, num_anchors=3),
    anchor_generator=L(DefaultAnchorGenerator)(
        sizes=[[32], [64], [128], [256], [512]],
        aspect_ratios=[[0.5, 1.0, 2.0]],
        strides=[4, 8, 16, 32, 64],
        offset=0.0,
    ),
    anchor_matcher=L(Matcher)(
        thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True
    ),
    box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
    batch_size_per_image=256,
    anchor_boundary_thresh=-1,
    positive_fraction=0.5,
    pre_nms_topk=(2000, 1000),
    post_nms_topk=(1000, 1000),
    nms_thresh=0.7,
    loss_weight=L(dict_of)(loss_rpn_cls=1.0, loss_rpn_loc=1.0),
)


def _pooler(size):
    return L(ROIPooler)(
        output_size=size,
        scales=(1.0 / 4, 1.0 / 8, 1.0 / 16, 1.0 / 32),
        sampling_ratio=0,
        pooler_type="ROIAlignV2",
    )


def _pooled(size):
    return L(ShapeSpec)(channels=_channels, height=size, width=size)


roi_heads = L(StandardROIHeads)(
    num_classes=80,
    batch_size_per_image=512,
    positive_fraction=0.25,
    proposal_matcher=L(Matcher)(thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False),
    box_in_features=levels,
    box_pooler=_pooler(7),
    box_head=L(FastRCNNConvFCHead)(input_shape=_pooled(7), conv_dims=[], fc_dims=[1024, 1024]),
    box_predictor=L(FastRCNNOutputLayers)(
        input_shape=L(ShapeSpec)(channels=1024),
        box2box_transform=L(Box2BoxTransform)(weights=[10.0, 10.0, 5.0, 5.0]),
        num_classes="${..num_classes}",
        test_score_thresh=0.05,
        loss_weight=L(dict_of)(loss_box_reg=1.0),
    ),
    mask_in_features=levels,
    mask_pooler=_pooler(14),
    mask_head=L(MaskRCNNConvUpsampleHead)(
        input_shape=_pooled(14),
        num_classes="${..num_classes}",
        conv_dims=[256, 256, 256, 256, 256],
    ),
)
