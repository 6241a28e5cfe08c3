"""Our backbones under Detectron2's heads, its backbones under ours."""

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import BitMasks, Boxes, Instances

from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.models.panoptic_deeplab import DeepLab2PanopticDeepLab


def _config(backbone: str, output_stride: int, **options: Any) -> CfgNode:
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.PIXEL_MEAN = cfg.MODEL.PIXEL_STD = [127.5, 127.5, 127.5]
    cfg.INPUT.CROP.SIZE = [65, 65]
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    node = cfg.MODEL.DEEPLAB2
    node.BACKBONE.NAME, node.BACKBONE.OUTPUT_STRIDE = backbone, output_stride
    node.BACKBONE.WIDTH_MULTIPLIER = options.get("width", 1.0)
    for decoder in (node.SEMANTIC_DECODER, node.INSTANCE_DECODER):
        decoder.CHANNELS = decoder.ASPP_CHANNELS = 8
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 5
    return cfg


def _image(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, height, width), generator=generator).float()


@pytest.mark.parametrize("name", ["xception_41", "resnet_v1_50_beta", "resnet101_caffe", "vgg16"])
def test_networks_of_the_older_releases_line_up_in_detectron2s_fpn(name: str) -> None:
    cfg = _config(name, 32, width=0.125)
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    fpn = build_backbone(cfg)
    # Detectron2 pads to multiples of 32; maps of other sizes could not be added.
    pyramid = fpn(torch.randn(2, 3, 64, 96))
    torch.stack([level.square().mean() for level in pyramid.values()]).sum().backward()
    without = [n for n, p in fpn.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_mask_rcnn_with_fpn_trains_and_predicts_on_our_backbone() -> None:
    cfg = _config("resnet_tiny", 32)
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.NUM_FC = "FastRCNNConvFCHead", 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM, cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 16, 7
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV, cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 1, 8
    torch.manual_seed(0)
    model = build_model(cfg)
    instances = Instances((70, 90))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 12.0, 50.0, 60.0]]))
    instances.gt_classes = torch.tensor([1])
    mask = torch.zeros(1, 70, 90, dtype=torch.bool)
    mask[:, 12:60, 10:50] = True
    instances.gt_masks = BitMasks(mask)
    from detectron2.utils.events import EventStorage

    cfg_input = {"image": _image(70, 90), "instances": instances}
    with EventStorage():
        losses = model.train()([cfg_input])
    assert {"loss_mask", "loss_cls", "loss_box_reg"} <= set(losses)
    sum(losses.values()).backward()
    stem = model.backbone.bottom_up.stem.conv.weight.grad
    assert stem.isfinite().all() and stem.abs().sum() > 0
    with torch.no_grad():
        (result,) = model.eval()([{"image": _image(70, 90)}])
    assert result["instances"].image_size == (70, 90)


@pytest.mark.parametrize("name", ["hrnet_w18", "hrnet_wider_plus", "auto_deeplab_s"])
def test_a_feature_pyramid_on_branches_and_on_cells_adds_up_all_levels(name: str) -> None:
    cfg = _config(name, 32, width=0.0625)
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    torch.manual_seed(0)
    pyramid = build_backbone(cfg).eval()
    images = torch.randn(1, 3, 64, 96)
    levels = pyramid(images)
    assert {key: tuple(value.shape[-2:]) for key, value in levels.items()} == {
        **{"p2": (16, 24), "p3": (8, 12), "p4": (4, 6), "p5": (2, 3), "p6": (1, 2)}
    }
    # The finest level has what every coarser one adds.
    levels["p2"].sum().backward()
    laterals = [pyramid.fpn_lateral2, pyramid.fpn_lateral3, pyramid.fpn_lateral4]
    for lateral in (*laterals, pyramid.fpn_lateral5):
        assert lateral.weight.grad.isfinite().all() and lateral.weight.grad.any()


def test_detectron2s_deeplab_v3_head_trains_on_our_backbone() -> None:
    deeplab = pytest.importorskip("detectron2.projects.deeplab", reason="no Detectron2 projects")
    cfg = _config("mobilenet_v3_small", 16, width=0.5)
    deeplab.add_deeplab_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "SemanticSegmentor"
    cfg.MODEL.SEM_SEG_HEAD.NAME = "DeepLabV3Head"
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["res5"]
    cfg.MODEL.SEM_SEG_HEAD.ASPP_CHANNELS = cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 8
    cfg.MODEL.SEM_SEG_HEAD.NORM = "BN"
    cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE = 16
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [64, 64]
    torch.manual_seed(0)
    model = build_model(cfg).train()
    labels = torch.randint(0, 5, (64, 64))
    losses = model([{"image": _image(64, 64), "sem_seg": labels} for _ in range(2)])
    losses["loss_sem_seg"].backward()
    assert model.backbone.blocks[0].conv.weight.grad.abs().sum() > 0


def test_our_heads_read_any_detectron2_backbone() -> None:
    cfg = _config("resnet50", 32)
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res5"]
    torch.manual_seed(0)
    backbone = build_backbone(cfg).eval()
    head = DeepLab2PanopticDeepLab.build_head(cfg, backbone.output_shape()).eval()
    with torch.no_grad():
        prediction = head(backbone(torch.randn(1, 3, 65, 97)))
    assert prediction["semantic_logits"].shape == (1, 5, 17, 25)
    assert prediction["center_heatmap"].shape == (1, 1, 17, 25)
    assert prediction["center_offsets"].shape == (1, 2, 17, 25)


@pytest.mark.parametrize("size", [(65, 97), (64, 90), (41, 33)])
def test_semantic_segmentor_takes_any_size(size: Any) -> None:
    cfg = _config("resnet_tiny", 16)
    cfg.MODEL.META_ARCHITECTURE = "SemanticSegmentor"
    cfg.MODEL.SEM_SEG_HEAD.NAME = "DeepLab2DeepLabV3PlusHead"
    node = cfg.MODEL.DEEPLAB2.SEMANTIC_DECODER
    node.LOW_LEVEL = [["res2", 8]]
    torch.manual_seed(0)
    model = build_model(cfg)
    labels = torch.full(size, 255)
    labels[:8] = 2
    losses = model.train()([{"image": _image(*size), "sem_seg": labels}])
    losses["loss_sem_seg"].backward()
    with torch.no_grad():
        (result,) = model.eval()([{"image": _image(*size)}])
    assert result["sem_seg"].shape == (5, *size)
