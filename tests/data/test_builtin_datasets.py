"""The mapper on real images under Detectron2's own datasets, where the mini sets are at hand."""

import pathlib

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.cityscapes_panoptic import load_cityscapes_panoptic
from detectron2.data.datasets.coco_panoptic import load_coco_panoptic_json

from deeplab2_d2.data import PanopticDatasetMapper
from deeplab2_d2.data.metadata import training_metadata
from deeplab2_d2.data.targets import PanopticTargetGenerator

_SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"


def _folder(name):
    if not (_SHARED / name).is_dir():
        pytest.skip(f"{_SHARED / name} is not there")
    return _SHARED / name


def _coco():
    root = _folder("coco_mini") / "coco"
    return load_coco_panoptic_json(
        str(root / "annotations" / "panoptic_val2017.json"),
        str(root / "val2017"),
        str(root / "panoptic_val2017"),
        MetadataCatalog.get("coco_2017_val_panoptic").as_dict(),
    )


def _cityscapes():
    root = _folder("cityscapes_mini") / "cityscapes"
    return load_cityscapes_panoptic(
        str(root / "leftImg8bit" / "train"),
        str(root / "gtFine" / "cityscapes_panoptic_train"),
        str(root / "gtFine" / "cityscapes_panoptic_train.json"),
        MetadataCatalog.get("cityscapes_fine_panoptic_train").as_dict(),
    )


def _sample(name, dataset_dict):
    metadata = training_metadata([name])
    mapper = PanopticDatasetMapper(
        is_train=True,
        augmentations=[],
        target_generator=PanopticTargetGenerator(ignore_label=metadata.ignore_label),
        num_classes=metadata.num_classes,
        thing_ids=metadata.thing_ids,
        label_divisor=metadata.label_divisor,
    )
    return mapper(dataset_dict)


def _num_instances(dataset_dict, thing_ids):
    segments = dataset_dict["segments_info"]
    return sum(s["category_id"] in thing_ids and not s["iscrowd"] for s in segments)


@pytest.mark.data
def test_coco_images_give_a_peak_for_every_instance():
    metadata = training_metadata(["coco_2017_val_panoptic"])
    assert (metadata.num_classes, len(metadata.thing_ids)) == (133, 80)
    for dataset_dict in _coco():
        sample = _sample("coco_2017_val_panoptic", dataset_dict)
        peaks = int((sample["center_heatmap"] == 1).sum())
        assert peaks == _num_instances(dataset_dict, metadata.thing_ids)


@pytest.mark.data
def test_cityscapes_classes_are_those_of_its_train_id_png():
    (dataset_dict,) = _cityscapes()
    sample = _sample("cityscapes_fine_panoptic_train", dataset_dict)
    from PIL import Image

    train_ids = torch.from_numpy(np.asarray(Image.open(dataset_dict["sem_seg_file_name"])).copy())
    known = sample["sem_seg"] != 255
    assert torch.equal(sample["sem_seg"][known], train_ids[known].long())
    assert known.float().mean() > 0.8


@pytest.mark.data
def test_the_crowd_of_cityscapes_has_no_weight():
    (dataset_dict,) = _cityscapes()
    crowds = [s for s in dataset_dict["segments_info"] if s["iscrowd"]]
    assert crowds
    sample = _sample("cityscapes_fine_panoptic_train", dataset_dict)
    for crowd in crowds:
        x, y, width, height = crowd["bbox"]
        window = slice(y, y + height), slice(x, x + width)
        assert int((sample["center_weights"][window] == 0).sum()) >= crowd["area"]
