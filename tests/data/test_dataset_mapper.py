import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from deeplab2_d2.data import PanopticDatasetMapper
from deeplab2_d2.data.metadata import training_metadata
from deeplab2_d2.data.targets import PanopticTargetGenerator
from deeplab2_d2.models.panoptic_deeplab.targets import build_mapper


def _first(name, **changes):
    return {**DatasetCatalog.get(name)[0], **changes}


@pytest.fixture
def plain_mapper():
    """Training samples without any augmentation."""
    return PanopticDatasetMapper(
        is_train=True,
        augmentations=[],
        target_generator=PanopticTargetGenerator(ignore_label=255),
        num_classes=7,
        thing_ids=range(4),
    )


def test_a_training_sample_has_the_crop_size_and_dtypes(shapes_cfg):
    sample = build_mapper(shapes_cfg, is_train=True)(
        _first(shapes_cfg.DATASETS.TRAIN[0]), np.random.default_rng(0)
    )
    tensors = {k: (tuple(v.shape), v.dtype) for k, v in sample.items() if torch.is_tensor(v)}
    assert tensors == {
        "image": ((3, 65, 97), torch.float32),
        "sem_seg": ((65, 97), torch.int64),
        "sem_seg_weights": ((65, 97), torch.float32),
        "center_heatmap": ((1, 65, 97), torch.float32),
        "center_weights": ((65, 97), torch.float32),
        "center_offsets": ((2, 65, 97), torch.float32),
        "offset_weights": ((65, 97), torch.float32),
    }
    assert (sample["height"], sample["width"]) == (64, 80)
    assert sample["image_id"] == 1 and sample["file_name"].endswith("000000.jpg")
    assert "segments_info" not in sample


def test_padding_is_mean_pixel_and_ignored_everywhere(shapes_cfg):
    shapes_cfg.INPUT.CROP.SIZE = [257, 257]
    shapes_cfg.INPUT.DEEPLAB2.SCALES = [0.5, 1.0, 0.1]
    sample = build_mapper(shapes_cfg, is_train=True)(
        _first(shapes_cfg.DATASETS.TRAIN[0]), np.random.default_rng(0)
    )
    padded = (sample["image"] == 127.5).all(dim=0)
    assert padded.sum() >= 257 * 257 - 64 * 80
    assert torch.all(sample["sem_seg"][padded] == 255)
    assert torch.all(sample["center_weights"][padded] == 0)
    assert torch.all(sample["offset_weights"][padded] == 0)


def test_without_augmentation_targets_match_the_png_on_disk(plain_mapper, registered_shapes):
    dataset_dict = _first(registered_shapes[0])
    sample = plain_mapper(dataset_dict)
    colors = np.asarray(Image.open(dataset_dict["pan_seg_file_name"])).astype(np.int64)
    ids = colors @ [1, 256, 65536]
    for segment in dataset_dict["segments_info"]:
        mask = torch.from_numpy(ids == segment["id"])
        wanted = 255 if segment["iscrowd"] else segment["category_id"]
        assert torch.all(sample["sem_seg"][mask] == wanted)
        is_instance = segment["isthing"] and not segment["iscrowd"]
        assert torch.all(sample["offset_weights"][mask] == float(is_instance))
        assert torch.all(sample["center_weights"][mask] == float(not segment["iscrowd"]))
    image = torch.from_numpy(np.asarray(Image.open(dataset_dict["file_name"])).copy())
    assert torch.equal(sample["image"], image.permute(2, 0, 1).float())


def test_the_dataset_dict_is_not_changed(shapes_cfg):
    mapper = build_mapper(shapes_cfg, is_train=True)
    dataset_dict = _first(shapes_cfg.DATASETS.TRAIN[0])
    before = repr(dataset_dict)
    mapper(dataset_dict, np.random.default_rng(0))
    assert repr(dataset_dict) == before


def test_a_sample_depends_on_the_generator_only(shapes_cfg):
    mapper = build_mapper(shapes_cfg, is_train=True)
    dataset_dict = _first(shapes_cfg.DATASETS.TRAIN[0])
    samples = [mapper(dataset_dict, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert torch.equal(samples[0]["image"], samples[1]["image"])
    assert torch.equal(samples[0]["center_offsets"], samples[1]["center_offsets"])
    assert not torch.equal(samples[0]["image"], samples[2]["image"])


def test_without_a_generator_the_global_seed_decides(shapes_cfg):
    # Under Detectron2's own loaders, which seed numpy in each worker.
    mapper = build_mapper(shapes_cfg, is_train=True)
    images = []
    for _ in range(2):
        np.random.seed(5)
        images.append(mapper(_first(shapes_cfg.DATASETS.TRAIN[0]))["image"])
    assert torch.equal(*images)


def test_a_test_sample_is_resized_to_the_range_and_not_padded(shapes_cfg):
    dataset_dict = _first(shapes_cfg.DATASETS.TEST[0])
    mapper = build_mapper(shapes_cfg, is_train=False)
    assert mapper(dataset_dict)["image"].shape == (3, 64, 80)

    shapes_cfg.INPUT.MIN_SIZE_TEST = shapes_cfg.INPUT.MAX_SIZE_TEST = 41
    sample = build_mapper(shapes_cfg, is_train=False)(dataset_dict)
    # 41 / 80 of 64 is 32.8, rounded down.
    assert sample["image"].shape == (3, 32, 41)
    assert (sample["height"], sample["width"]) == (64, 80)
    assert sample["pan_seg_file_name"] == dataset_dict["pan_seg_file_name"]


def test_semantic_only_training_has_no_instance_targets(shapes_cfg):
    shapes_cfg.MODEL.DEEPLAB2.INSTANCE_ENABLED = False
    sample = build_mapper(shapes_cfg, is_train=True)(
        _first(shapes_cfg.DATASETS.TRAIN[0]), np.random.default_rng(0)
    )
    assert {k for k, v in sample.items() if torch.is_tensor(v)} == {
        "image",
        "sem_seg",
        "sem_seg_weights",
    }


def test_bgr_images_are_read_in_that_order(plain_mapper, registered_shapes):
    dataset_dict = _first(registered_shapes[0])
    rgb = plain_mapper(dataset_dict)["image"]
    plain_mapper.image_format = "BGR"
    assert torch.equal(plain_mapper(dataset_dict)["image"], rgb.flip(0))


def test_a_png_of_another_size_is_named_with_its_image(plain_mapper, registered_shapes, tmp_path):
    png = tmp_path / "other_size.png"
    Image.new("RGB", (5, 4)).save(png)
    dataset_dict = _first(registered_shapes[0], pan_seg_file_name=str(png))
    with pytest.raises(ValueError, match="other_size.png has size 4 x 5, .*000000.jpg has 64 x 80"):
        plain_mapper(dataset_dict)


def test_a_missing_and_a_broken_image_are_named(plain_mapper, registered_shapes, tmp_path):
    with pytest.raises(FileNotFoundError, match="image .*nowhere.jpg does not exist"):
        plain_mapper(_first(registered_shapes[0], file_name=str(tmp_path / "nowhere.jpg")))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="broken.jpg cannot be read"):
        plain_mapper(_first(registered_shapes[0], file_name=str(tmp_path / "broken.jpg")))


def test_a_category_outside_the_metadata_is_named(plain_mapper, registered_shapes):
    plain_mapper.num_classes = 4
    with pytest.raises(ValueError, match="000000.png: segment .* classes 0 to 3"):
        plain_mapper(_first(registered_shapes[0]))


def test_a_dataset_without_panoptic_annotation_is_named(plain_mapper, registered_shapes):
    dataset_dict = _first(registered_shapes[0])
    del dataset_dict["pan_seg_file_name"]
    with pytest.raises(ValueError, match="000000.jpg must have 'pan_seg_file_name'"):
        plain_mapper(dataset_dict)


def test_training_sets_must_have_panoptic_metadata_and_the_same_classes(registered_shapes):
    assert training_metadata(registered_shapes).thing_ids == (0, 1, 2, 3)
    with pytest.raises(ValueError, match="no_such_set must be registered with panoptic metadata"):
        training_metadata(["no_such_set"])
    MetadataCatalog.remove("no_such_set")
    with pytest.raises(ValueError, match="same classes.*coco_2017_val_panoptic"):
        training_metadata([registered_shapes[0], "coco_2017_val_panoptic"])


def test_vertical_flip_is_refused(shapes_cfg):
    shapes_cfg.INPUT.RANDOM_FLIP = "vertical"
    with pytest.raises(ValueError, match="INPUT.RANDOM_FLIP"):
        build_mapper(shapes_cfg, is_train=True)
