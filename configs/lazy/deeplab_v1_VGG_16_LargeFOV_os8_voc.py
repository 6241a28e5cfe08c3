"""
PascalVOC-SemanticSegmentation/deeplab_v1_VGG_16_LargeFOV_os8_step_6k_bs30_crop_321_321.yaml.

    python train_net.py --config-file configs/lazy/deeplab_v1_VGG_16_LargeFOV_os8_voc.py
"""

from deeplab2_d2.models.deeplab import DeepLab2DeepLabV1

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
from .common.network import values

model._target_ = DeepLab2DeepLabV1
del model["scales"]
model.head.spec.update(rates=values(12), averages_feature=True)
train.max_iter = 6000
lr_multiplier.update(schedule="step", steps=[2000, 4000], gamma=0.1, warmup_factor=0.001)
dataloader.train.total_batch_size = 30
