"""The mapper of instances and panoptic maps, on generated scenes of overlapping things."""

import itertools
import pathlib

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import BitMasks
from PIL import Image

from deeplab2_d2.config import add_deeplab2_config
from deeplab2_d2.data import (
    GloballySeeded,
    InstancePanopticMapper,
    build_test_loader,
    build_train_loader,
)
from deeplab2_d2.data.builtin import register_all, register_coco_with_instances
from deeplab2_d2.data.shapes_layers import (
    ShapesLayersOptions,
    prepare_shapes_layers,
    register_shapes_layers,
)

_NAMES = ("shapes_layers_train", "shapes_layers_val")
_COCO24 = pathlib.Path(__file__).parents[3] / "shared" / "data" / "coco24"


def _forget(*names):
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    """Dicts of eight training images."""
    folder = tmp_path_factory.mktemp("datasets")
    options = ShapesLayersOptions(num_train=8, num_val=2)
    prepare_shapes_layers(str(folder / "shapes_layers"), options)
    _forget(*_NAMES)
    register_shapes_layers(str(folder))
    yield DatasetCatalog.get(_NAMES[0])
    _forget(*_NAMES)
    register_all()


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_deeplab2_config(cfg)
    cfg.SEED = 5
    cfg.DATASETS.TRAIN = _NAMES[:1]
    cfg.INPUT.MIN_SIZE_TRAIN = (150, 333)
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "range"
    cfg.INPUT.MAX_SIZE_TRAIN = 400
    cfg.INPUT.MIN_SIZE_TEST = 100
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.MODEL.MASK_ON = True
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATALOADER.NUM_WORKERS = 0
    return cfg


def _plain_mapper(augmentations=(), **arguments):
    return InstancePanopticMapper(
        is_train=True,
        augmentations=augmentations,
        image_format="RGB",
        num_classes=7,
        thing_ids=range(4),
        **arguments,
    )


def test_painting_the_transformed_masks_in_their_order_gives_the_things_of_sem_seg(layers, cfg):
    # Whole masks and map are resized and flipped apart: equal everywhere, or not alike.
    mapper, sizes = InstancePanopticMapper(cfg, is_train=True), set()
    for k, dataset_dict in enumerate(layers * 2):
        sample = mapper(dataset_dict, np.random.default_rng(k))
        instances, sem_seg = sample["instances"], sample["sem_seg"]
        order = np.argsort([a["paint_order"] for a in dataset_dict["annotations"]])
        assert len(instances) == len(order) > 0
        painted = torch.full_like(sem_seg, -1)
        for i in order.tolist():
            painted[instances.gt_masks.tensor[i]] = instances.gt_classes[i]
        is_thing = sem_seg < 4
        assert torch.equal(painted[is_thing], sem_seg[is_thing])
        assert torch.all(painted[~is_thing] == -1)
        assert sample["image"].shape[1:] == sem_seg.shape == instances.image_size
        sizes.add(sem_seg.shape)
    assert len(sizes) > 8


def test_image_and_instances_are_those_of_detectron2s_mapper(layers, cfg):
    ours, detectron2 = InstancePanopticMapper(cfg, True), GloballySeeded(DatasetMapper(cfg, True))
    for k, dataset_dict in enumerate(layers):
        sample = ours(dataset_dict, np.random.default_rng(k))
        expected = detectron2(dataset_dict, np.random.default_rng(k))
        assert torch.equal(sample["image"], expected["image"])
        fields, wanted = (s["instances"].get_fields() for s in (sample, expected))
        assert fields.keys() == wanted.keys() == {"gt_boxes", "gt_classes", "gt_masks"}
        for name in ("gt_boxes", "gt_masks"):
            assert torch.equal(fields[name].tensor, wanted[name].tensor)
        assert torch.equal(fields["gt_classes"], wanted["gt_classes"])
        for key in ("file_name", "image_id", "height", "width"):
            assert sample[key] == dataset_dict[key]


def test_a_flip_and_twice_the_size_are_done_to_all_three(layers):
    source = layers[0]
    plain = _plain_mapper()(source)
    changed = _plain_mapper([T.Resize((384, 512)), T.RandomFlip(prob=1.0)])(source)
    masks, boxes = plain["instances"].gt_masks.tensor, plain["instances"].gt_boxes.tensor

    def twice(maps):
        return maps.repeat_interleave(2, -2).repeat_interleave(2, -1).flip(-1)

    assert torch.equal(changed["instances"].gt_masks.tensor, twice(masks))
    assert torch.equal(changed["sem_seg"], twice(plain["sem_seg"]))
    x0, y0, x1, y1 = (2 * boxes).unbind(1)
    expected = torch.stack([512 - x1, y0, 512 - x0, y1], dim=1)
    assert torch.equal(changed["instances"].gt_boxes.tensor, expected)


def test_boxes_are_around_what_a_crop_leaves_of_the_masks(layers, cfg):
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = "absolute", [90, 120]
    mapper, num_instances = InstancePanopticMapper(cfg, True), 0
    for k, dataset_dict in enumerate(layers):
        instances = mapper(dataset_dict, np.random.default_rng(k))["instances"]
        masks = instances.gt_masks.tensor
        assert masks.flatten(1).any(1).all()
        assert torch.equal(instances.gt_boxes.tensor, BitMasks(masks).get_bounding_boxes().tensor)
        num_instances += len(instances)
    assert 0 < num_instances < sum(len(d["annotations"]) for d in layers)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_loader_goes_on_with_the_samples_it_would_have_had(layers, cfg, num_workers):
    mapper = InstancePanopticMapper(cfg, is_train=True)
    whole = list(itertools.islice(build_train_loader(cfg, mapper), 6))
    cfg.DATALOADER.NUM_WORKERS = num_workers
    resumed = itertools.islice(build_train_loader(cfg, mapper, start_iteration=3), 3)
    for batch, other in zip(whole[3:], resumed):
        for sample, again in zip(batch, other):
            assert torch.equal(sample["image"], again["image"])
            assert torch.equal(sample["sem_seg"], again["sem_seg"])
            masks, others = (s["instances"].gt_masks.tensor for s in (sample, again))
            assert torch.equal(masks, others)


def test_test_samples_are_detectron2s(layers, cfg):
    (sample,) = next(
        iter(build_test_loader(cfg, _NAMES[1], InstancePanopticMapper(cfg, is_train=False)))
    )
    expected = DatasetMapper(cfg, False)(DatasetCatalog.get(_NAMES[1])[0])
    assert torch.equal(sample.pop("image"), expected.pop("image"))
    assert sample == expected and "annotations" not in sample
    # 192 x 256 with a shorter side of 100.
    assert (sample["height"], sample["width"]) == (192, 256)


def test_a_dict_is_left_as_it_was(layers, cfg):
    # Polygons in arrays, which Detectron2's transforms change in place.
    polygon = np.array([10.0, 10, 60, 10, 60, 50])
    annotation = {**layers[0]["annotations"][0], "segmentation": [polygon.copy()]}
    _plain_mapper([T.Resize((384, 512))])({**layers[0], "annotations": [annotation]})
    assert np.array_equal(annotation["segmentation"][0], polygon)
    assert annotation["bbox"] == layers[0]["annotations"][0]["bbox"]


def test_crowds_are_no_instances_and_have_the_ignore_label(layers):
    first = layers[0]
    plain = _plain_mapper()(first)
    (segment,) = [s for s in first["segments_info"] if s["isthing"]][:1]
    crowd = {**segment, "iscrowd": 1}
    segments = [crowd if s["id"] == segment["id"] else s for s in first["segments_info"]]
    lowest = min(first["annotations"], key=lambda a: a["paint_order"])
    annotations = [{**a, "iscrowd": int(a is lowest)} for a in first["annotations"]]
    sample = _plain_mapper()({**first, "segments_info": segments, "annotations": annotations})
    assert len(sample["instances"]) == len(plain["instances"]) - 1
    changed = sample["sem_seg"] != plain["sem_seg"]
    assert int(changed.sum()) == segment["area"]
    assert torch.all(sample["sem_seg"][changed] == 255)


def test_an_image_without_instances_is_left_out_or_has_none(layers, cfg):
    empty = {**layers[0], "annotations": [{**a, "iscrowd": 1} for a in layers[0]["annotations"]]}
    assert cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    assert InstancePanopticMapper(cfg, is_train=True)(empty) is None
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    sample = InstancePanopticMapper(cfg, is_train=True)(empty)
    instances = sample["instances"]
    assert instances.gt_masks.tensor.shape == (0, *sample["sem_seg"].shape)
    assert len(instances) == len(instances.gt_boxes) == len(instances.gt_classes) == 0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"category_id": 4}, "category_id must be .* the 4 things, got 4"),
        ({"segmentation": np.zeros((4, 5))}, r"image's size \(192, 256\), got \(4, 5\)"),
        ({"segmentation": {"size": [4, 5], "counts": b""}}, r"\(192, 256\), got \(4, 5\)"),
        ({"segmentation": None}, "must have a mask"),
    ],
)
def test_an_annotation_that_cannot_be_is_named_with_its_image(layers, changes, message):
    annotation = {**layers[0]["annotations"][0], **changes}
    wrong = {**layers[0], "annotations": [annotation]}
    with pytest.raises(ValueError, match=f"{wrong['file_name']}: annotation 1: .*{message}"):
        _plain_mapper()(wrong)


def test_a_dict_without_instances_and_a_broken_image_are_named(layers, tmp_path):
    without = {k: v for k, v in layers[0].items() if k != "annotations"}
    with pytest.raises(ValueError, match="000000.jpg must have 'annotations'.*<name>_instances"):
        _plain_mapper()(without)
    (tmp_path / "no.jpg").write_bytes(b"no image")
    broken = {**layers[0], "file_name": str(tmp_path / "no.jpg")}
    is_test = InstancePanopticMapper(is_train=False, augmentations=[], image_format="RGB")
    for mapper in (_plain_mapper(), is_test):
        with pytest.raises(ValueError, match="no.jpg"):
            mapper(broken)


def test_a_panoptic_map_of_another_size_is_named(layers, tmp_path):
    png = tmp_path / "half.png"
    with Image.open(layers[0]["pan_seg_file_name"]) as image:
        image.resize((128, 96), Image.Resampling.NEAREST).save(png)
    with pytest.raises(
        ValueError, match=f"{png} has size 96 x 128, but .*000000.jpg has 192 x 256"
    ):
        _plain_mapper()({**layers[0], "pan_seg_file_name": str(png)})


def test_labels_must_fit_a_byte():
    with pytest.raises(ValueError, match="classes <= 255, got 4 things of 256 classes"):
        InstancePanopticMapper(
            is_train=True,
            augmentations=[],
            image_format="RGB",
            num_classes=256,
            thing_ids=range(4),
        )


@pytest.mark.data
def test_the_things_of_coco_are_the_same_in_both_annotations():
    if not _COCO24.is_dir():
        pytest.skip(f"{_COCO24} is not there")
    names = [f"coco_2017_{split}_panoptic_instances" for split in ("train", "val")]
    _forget(*names)
    register_coco_with_instances(str(_COCO24))
    try:
        cfg = get_cfg()
        add_deeplab2_config(cfg)
        cfg.DATASETS.TRAIN = names[:1]
        mapper = InstancePanopticMapper(cfg, is_train=True)
        dicts = DatasetCatalog.get(names[0])
        assert len(dicts) == 15 and sum(len(d["annotations"]) for d in dicts) == 116
        for k, dataset_dict in enumerate(dicts[:6]):
            sample = mapper(dataset_dict, np.random.default_rng(k))
            # These do not overlap: a mask has its class, and what is no thing has no mask.
            classes = torch.full_like(sample["sem_seg"], -1)
            for mask, class_ in zip(
                sample["instances"].gt_masks.tensor, sample["instances"].gt_classes
            ):
                classes[mask] = class_
            is_thing = sample["sem_seg"] < 80
            assert is_thing.any()
            assert torch.equal(classes[is_thing], sample["sem_seg"][is_thing])
            assert torch.all(classes[~is_thing] == -1)
    finally:
        _forget(*names)
        register_all()
