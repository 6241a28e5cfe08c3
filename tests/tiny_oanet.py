"""A tiny OANet on a generated set of classes, and a sample with overlapping instances."""

from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances

from deeplab2_d2.config import add_deeplab2_config, validate_config

DATASET = "oanet_test_classes"
# Things have the contiguous classes 1 and 3, so that a place and a class differ.
THING_IDS, STUFF_IDS = (1, 3), (0, 2, 4)


def register_classes() -> None:
    metadata = MetadataCatalog.get(DATASET)
    metadata.thing_dataset_id_to_contiguous_id = {10 + k: k for k in THING_IDS}
    metadata.stuff_dataset_id_to_contiguous_id = {10 + k: k for k in range(5)}
    metadata.stuff_classes = metadata.thing_classes = list("abcde")
    metadata.ignore_label, metadata.label_divisor = 255, 1000


def make_config(**oanet: Any) -> CfgNode:
    """Keys of OANET by name; those of RANKING as ``ranking_module``."""
    register_classes()
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.DATASETS.TRAIN = (DATASET,)
    cfg.MODEL.DEVICE, cfg.MODEL.META_ARCHITECTURE = "cpu", "DeepLab2OANet"
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.PIXEL_MEAN = cfg.MODEL.PIXEL_STD = [127.5, 127.5, 127.5]
    cfg.MODEL.BACKBONE.NAME = "build_deeplab2_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.DEEPLAB2.BACKBONE.NAME = "resnet_tiny"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 50
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.NUM_CLASSES = "StandardROIHeads", 2
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.NUM_FC = "FastRCNNConvFCHead", 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM, cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 16, 7
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV, cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 1, 8
    head = cfg.MODEL.SEM_SEG_HEAD
    head.NAME, head.NUM_CLASSES, head.CONVS_DIM = "DeepLab2OANetStuffHead", 5, 32
    head.IGNORE_VALUE, head.LOSS_WEIGHT = 255, 0.25
    for key, value in oanet.items():
        node = cfg.MODEL.DEEPLAB2.OANET
        if key.startswith("ranking_"):
            node, key = node.RANKING, key[len("ranking_") :]
        node[key.upper()] = value
    return cfg


def make_model(cfg: CfgNode, seed: int = 0) -> Any:
    validate_config(cfg)
    torch.manual_seed(seed)
    return build_model(cfg)


def make_sample(height: int = 64, width: int = 96) -> Any:
    """A disc of class 1 (place 0) under a square of class 3 (place 1), on stuff of class 2."""
    generator = torch.Generator().manual_seed(1)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    disc = (rows - 30) ** 2 + (columns - 40) ** 2 < 24**2
    square = ((rows - 34).abs() < 10) & ((columns - 48).abs() < 10)
    instances = Instances((height, width))
    instances.gt_masks = BitMasks(torch.stack([disc, square]))
    instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
    instances.gt_classes = torch.tensor([0, 1])
    classes = torch.full((height, width), 2)
    classes[disc] = 1
    classes[square] = 3
    classes[0] = 255
    image = torch.randint(0, 256, (3, height, width), generator=generator)
    return {"image": image, "instances": instances, "sem_seg": classes, "file_name": "a.png"}


def empty_instances(height: int, width: int) -> Instances:
    instances = Instances((height, width))
    instances.gt_masks = BitMasks(torch.zeros(0, height, width, dtype=torch.bool))
    instances.gt_boxes = Boxes(torch.zeros(0, 4))
    instances.gt_classes = torch.zeros(0, dtype=torch.int64)
    return instances
