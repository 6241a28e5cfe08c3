"""
Cityscapes-PanopticSegmentation/panoptic_deeplab_R_50_os32_poly_60k_bs8_crop_1025_2049.yaml.

    python train_net.py --config-file configs/lazy/panoptic_deeplab_R_50_os32_cityscapes.py
"""

from .common.cityscapes import dataloader, dataset, images
from .common.panoptic_deeplab import class_map, model, norm, shapes
from .common.solver import adam as optimizer
from .common.solver import lr_multiplier
from .common.train import train

train.init_checkpoint = "deeplab2://resnet50_imagenet1k"
dataloader.train.total_batch_size = 8
optimizer.lr = 0.00025
