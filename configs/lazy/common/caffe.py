"""What DeepLab v1 and v2 share, as their authors' files train; see Base-DeepLab-Caffe.yaml."""

from .data import crop, flip, random_scale
from .deeplab import class_map, dataloader, dataset, head_norm, images, norm, shapes
from .deeplab import v2 as model
from .solver import lr_multiplier
from .solver import sgd as optimizer
from .train import train

model.backbone.name = "vgg16"
model.backbone.output_stride = 8
model.pixel_mean = [104.008, 116.669, 122.675]
model.pixel_std = [1.0, 1.0, 1.0]
norm.update(name="FrozenBN", epsilon=1e-5)
images.update(format="BGR", crop_size=[321, 321])
dataloader["train"].mapper.augmentations = [random_scale(1.0, 1.0, 0.0), crop, flip]
optimizer.lr = 0.001
optimizer.params.update(weight_decay=0.0005, bias_multiplier=2.0, classifier_multiplier=10.0)
