"""
COCO-PanopticSegmentation/max_deeplab_S_os16_poly_100k_bs64_crop_641_641.yaml.

    python train_net.py --config-file configs/lazy/max_deeplab_S_os16_coco.py
"""

from .common.coco import dataloader, dataset, images
from .common.max_deeplab import class_map, model, norm, shapes
from .common.max_deeplab import targets as _targets
from .common.network import values
from .common.solver import adam as optimizer
from .common.solver import lr_multiplier
from .common.train import train

train.init_checkpoint = "deeplab2://max_deeplab_s_backbone_imagenet1k_strong_training_strategy"
train.max_iter = 100000
model.backbone.backbone.update(
    name="max_deeplab_s", output_stride=16, DROP_PATH=values(0.8, "linear")
)
dataloader.train.mapper.target_generator = _targets
optimizer.lr = 0.001
optimizer.params.backbone_multiplier = 0.1
lr_multiplier.warmup_iters = 5000
