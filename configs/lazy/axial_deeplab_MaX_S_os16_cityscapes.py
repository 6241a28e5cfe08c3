"""
Cityscapes-PanopticSegmentation/axial_deeplab_MaX_S_os16_poly_60k_bs32_crop_1025_2049.yaml.

    python train_net.py --config-file configs/lazy/axial_deeplab_MaX_S_os16_cityscapes.py
"""

from detectron2.config import LazyCall as L

from deeplab2_d2.data.autoaugment import AutoAugment

from .common.cityscapes import dataloader, dataset, images
from .common.network import values
from .common.panoptic_deeplab import class_map, model, norm, shapes
from .common.solver import adam as optimizer
from .common.solver import lr_multiplier
from .common.train import train

train.init_checkpoint = "deeplab2://max_deeplab_s_backbone_imagenet1k_strong_training_strategy"
model.backbone.name = "max_deeplab_s_backbone"
model.backbone.output_stride = 16
model.backbone.DROP_PATH = values(0.8, "linear")
model.head.decoders.semantic_decoder.aspp = "1x1"
model.head.decoders.instance_decoder.aspp = "1x1"
dataloader.train.mapper.augmentations.insert(
    1, L(AutoAugment)(policy="simple_classification_policy", magnitude=0.2)
)
optimizer.lr = 0.0001
