"""Detectron2's transforms on float32 images and int32 maps of segments."""

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T

from deeplab2_d2.data import PanopticDatasetMapper, PanopticTargetGenerator
from deeplab2_d2.data.foreign_transforms import apply_to_image, apply_to_map

# Numbers of one byte and of more, 255 among them, as a map of many segments has.
LABELS = np.array([[1, 255, 0], [300, 70_000, 255], [2**24 + 1, 7, 8]], np.int32)


def test_resizing_copies_labels_of_any_size():
    doubled = apply_to_map(T.ResizeTransform(3, 3, 6, 6), LABELS)
    assert doubled.dtype == np.int32
    assert np.array_equal(doubled, LABELS.repeat(2, axis=0).repeat(2, axis=1))
    # A pixel of the half is the one whose center is nearest to its own, right and down of the tie.
    halved = apply_to_map(T.ResizeTransform(6, 6, 3, 3), doubled)
    assert np.array_equal(halved, LABELS)


def test_what_a_transform_makes_up_is_unlabeled_whatever_it_pads_with():
    padded = apply_to_map(T.PadTransform(1, 0, 0, 1, 3, 3, seg_pad_value=255), LABELS)
    assert np.array_equal(padded, np.pad(LABELS, [(0, 1), (1, 0)]))
    # Pillow fills what lies beside the image with black, and OpenCV does.
    extent = apply_to_map(T.ExtentTransform((-1, 0, 2, 3), (3, 3)), LABELS)
    assert np.array_equal(extent, np.pad(LABELS, [(0, 0), (1, 0)])[:, :3])


def test_rotation_by_a_right_angle_turns_the_map():
    pytest.importorskip("cv2")
    turned = apply_to_map(T.RotationTransform(3, 3, 90), LABELS)
    assert np.array_equal(turned, np.rot90(LABELS))


def test_a_list_is_applied_in_its_order_and_moves_alone_take_any_type():
    both = T.TransformList([T.HFlipTransform(3), T.ResizeTransform(3, 3, 6, 6)])
    expected = LABELS[:, ::-1].repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(apply_to_map(both, LABELS), expected)
    depth = np.array([[0.0, 1.25, 80.5]], np.float32)
    resized = apply_to_map(T.ResizeTransform(1, 3, 2, 3), depth)
    assert resized.dtype == np.float32 and np.array_equal(resized, depth.repeat(2, axis=0))


def test_images_of_floats_are_seen_as_bytes():
    image = np.full((4, 4, 3), 99.6, np.float32)
    # Pillow knows no image of three float channels.
    moved = apply_to_image(T.ExtentTransform((0, 0, 4, 4), (8, 8)), image)
    assert moved.dtype == np.float32 and moved.shape == (8, 8, 3) and (moved == 100).all()
    inverted = apply_to_image(
        T.PILColorTransform(lambda picture: picture.point(lambda v: 255 - v)), image
    )
    assert (inverted == 155).all()


def test_the_mapper_takes_detectron2s_augmentations_and_a_sample_follows_from_its_generator(
    registered_shapes,
):
    augmentations = [
        T.RandomContrast(0.5, 1.5),
        T.ResizeShortestEdge([90, 100, 110], 150, "choice"),
        T.RandomRotation([-10, 10], expand=False),
        T.RandomExtent((0.9, 1.1), (0.1, 0.1)),
        T.RandomFlip(),
        T.FixedSizeCrop((129, 161)),
    ]
    mapper = PanopticDatasetMapper(
        is_train=True,
        augmentations=augmentations,
        target_generator=PanopticTargetGenerator(ignore_label=255),
        num_classes=7,
        thing_ids=range(4),
    )
    record = DatasetCatalog.get(registered_shapes[0])[0]
    plain = PanopticDatasetMapper(
        is_train=True,
        augmentations=[],
        target_generator=PanopticTargetGenerator(ignore_label=255),
        num_classes=7,
        thing_ids=range(4),
    )(record)
    found = set(plain["sem_seg"].unique().tolist())
    np.random.seed(1)
    first = mapper(record, np.random.default_rng(3))
    np.random.seed(2)
    again, other = mapper(record, np.random.default_rng(3)), mapper(
        record, np.random.default_rng(4)
    )
    assert tuple(first["image"].shape) == (3, 129, 161)
    assert tuple(first["sem_seg"].shape) == (129, 161)
    # Beside the classes of the image there is only what is unlabeled.
    assert set(first["sem_seg"].unique().tolist()) <= found | {255}
    assert 255 in first["sem_seg"] and len(set(first["sem_seg"].unique().tolist())) > 3
    for name in ("image", "sem_seg", "center_offsets"):
        assert (first[name] == again[name]).all()
    assert (first["image"] != other["image"]).any()
