"""
Loaders of panoptic datasets.

A config has beside them `dataset` (names, number of classes, ignore label) and `images` (format,
sizes), to which the nodes here refer.
"""

from detectron2.config import LazyCall as L

from deeplab2_d2.data import PanopticDatasetMapper, PanopticTargetGenerator, ResizeToRange
from deeplab2_d2.data.augmentation import RandomCropOrPad, RandomHorizontalFlip, RandomScale
from deeplab2_d2.data.plain_loaders import test_loader, train_loader
from deeplab2_d2.engine.lazy_nodes import label_divisor, thing_ids
from deeplab2_d2.evaluation import (
    CityscapesMaskEvaluator,
    CityscapesSemanticEvaluator,
    PanopticInstanceEvaluator,
    PanopticQualityEvaluator,
    SemanticEvaluator,
)

images = dict(format="RGB", crop_size=[641, 641], pad_to=[0, 0])


def random_scale(low, high, step):
    return L(RandomScale)(min_scale=low, max_scale=high, step=step)


crop = L(RandomCropOrPad)(crop_size="${images.crop_size}")
flip = L(RandomHorizontalFlip)()

targets = L(PanopticTargetGenerator)(
    ignore_label="${dataset.ignore_label}",
    sigma=8.0,
    small_instance_area=4096,
    small_instance_weight=3.0,
)

dataloader = dict(
    train=L(train_loader)(
        dataset="${dataset.train}",
        mapper=L(PanopticDatasetMapper)(
            is_train=True,
            augmentations=[random_scale(0.5, 2.0, 0.1), crop, flip],
            image_format="${images.format}",
            target_generator=targets,
            num_classes="${dataset.num_classes}",
            thing_ids=L(thing_ids)(dataset="${dataset.train}"),
            label_divisor=L(label_divisor)(dataset="${dataset.train}"),
            ignore_label="${dataset.ignore_label}",
        ),
        total_batch_size=32,
        num_workers=4,
        seed="${train.seed}",
    ),
    test=L(test_loader)(
        dataset="${dataset.test}",
        mapper=L(PanopticDatasetMapper)(
            is_train=False,
            augmentations=[L(ResizeToRange)(min_size=0, max_size=0)],
            image_format="${images.format}",
        ),
        num_workers=4,
    ),
)

_folder = "${train.output_dir}/inference"
_name = "${dataset.test}"
semantic_evaluator = L(SemanticEvaluator)(dataset_name=_name)
panoptic_evaluators = [
    semantic_evaluator,
    L(PanopticQualityEvaluator)(dataset_name=_name, output_dir=_folder),
    L(PanopticInstanceEvaluator)(dataset_name=_name, output_dir=_folder),
]
cityscapes_evaluators = [
    L(CityscapesSemanticEvaluator)(dataset_name=_name),
    L(PanopticQualityEvaluator)(dataset_name=_name, output_dir=_folder),
    L(CityscapesMaskEvaluator)(dataset_name=_name),
]
