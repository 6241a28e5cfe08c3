"""Cityscapes: whole images of 1024x2048 in a crop of 1025x2049."""

from .data import cityscapes_evaluators, dataloader, images

dataset = dict(
    train="cityscapes_fine_panoptic_train",
    test="cityscapes_fine_panoptic_val",
    num_classes=19,
    ignore_label=255,
)
images.update(crop_size=[1025, 2049])
dataloader["evaluator"] = cityscapes_evaluators
