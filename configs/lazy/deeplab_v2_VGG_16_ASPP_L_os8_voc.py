"""
PascalVOC-SemanticSegmentation/deeplab_v2_VGG_16_ASPP_L_os8_poly_20k_bs10_crop_321_321.yaml.

    python train_net.py --config-file configs/lazy/deeplab_v2_VGG_16_ASPP_L_os8_voc.py
"""

from .common.caffe import (
    class_map,
    dataloader,
    dataset,
    head_norm,
    images,
    lr_multiplier,
    model,
    norm,
    optimizer,
    shapes,
    train,
)

train.max_iter = 20000
dataloader.train.total_batch_size = 10
