"""COCO panoptic: Detectron2's 133 classes."""

from detectron2.config import LazyCall as L

from deeplab2_d2.data import ResizeToRange

from .data import crop, dataloader, flip, panoptic_evaluators, random_scale

dataset = dict(
    train="coco_2017_train_panoptic",
    test="coco_2017_val_panoptic",
    num_classes=133,
    ignore_label=255,
)
images = dict(
    format="RGB",
    side=641,
    crop_size=["${images.side}", "${images.side}"],
    pad_to=["${images.side}", "${images.side}"],
)
resize = L(ResizeToRange)(min_size="${images.side}", max_size="${images.side}")
dataloader["train"].total_batch_size = 64
dataloader["train"].mapper.augmentations = [resize, random_scale(0.5, 1.5, 0.1), crop, flip]
dataloader["test"].mapper.augmentations = [resize]
dataloader["evaluator"] = panoptic_evaluators
