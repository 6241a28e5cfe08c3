"""
PascalVOC-SemanticSegmentation/deeplab_v3plus_X_65_os16_poly_30k_bs16_crop_513_513.yaml.

    python train_net.py --config-file configs/lazy/deeplab_v3plus_X_65_os16_voc.py
"""

from .common.deeplab import class_map, dataloader, dataset, head_norm, images, norm, shapes
from .common.deeplab import v3_plus as model
from .common.solver import lr_multiplier
from .common.solver import sgd as optimizer
from .common.train import train

train.init_checkpoint = "deeplab2://xception_65_imagenet_coco"
train.max_iter = 30000
model.backbone.name = "xception_65"
model.backbone.output_stride = 16
norm.momentum = 0.0003
dataloader.train.total_batch_size = 16
optimizer.lr = 0.007
optimizer.params.weight_decay = 0.00004
optimizer.params.decays_depthwise = False
