import numpy as np
import torch
from detectron2.structures import BitMasks, Instances
from PIL import Image

from deeplab2_d2.data import build_train_loader
from deeplab2_d2.data.show.__main__ import main, sample_legend, sample_pictures
from deeplab2_d2.models.panoptic_deeplab.targets import build_mapper


def test_pictures_show_the_targets_of_its_sample(shapes_cfg):
    first, _ = next(iter(build_train_loader(shapes_cfg, build_mapper(shapes_cfg, is_train=True))))
    colors = np.arange(21, dtype=np.uint8).reshape(7, 3) * 10
    image, classes, weights, centers, offsets = sample_pictures(first, colors).values()
    assert {picture.shape for picture in (image, classes, weights, centers, offsets)} == {
        (65, 97, 3)
    }
    assert np.abs(image - first["image"].permute(1, 2, 0).numpy()).max() <= 0.5
    # Offsets are black but on instances, centers black but near peaks.
    assert np.array_equal(offsets.any(axis=-1), first["offset_weights"].numpy() > 0)
    # Unlabeled pixels show the image, white and black lines over it.
    ignored = first["sem_seg"].numpy() == 255
    assert ignored.any()
    is_line = (classes == 255).all(axis=-1) | (classes == 0).all(axis=-1)
    assert np.array_equal(classes[ignored & ~is_line], image[ignored & ~is_line])
    assert 0.3 < is_line[ignored].mean() < 0.7 and not is_line[~ignored].any()


def test_semantic_only_samples_have_three_pictures(shapes_cfg):
    shapes_cfg.MODEL.DEEPLAB2.INSTANCE_ENABLED = False
    mapper = build_mapper(shapes_cfg, is_train=True)
    sample, _ = next(iter(build_train_loader(shapes_cfg, mapper)))
    assert list(sample_pictures(sample, np.zeros((7, 3)))) == [
        "image",
        "classes",
        "semantic weights",
    ]


def test_instances_are_shown_by_how_many_lie_on_a_pixel():
    instances = Instances((4, 5))
    instances.gt_masks = BitMasks(torch.zeros(2, 4, 5, dtype=torch.bool))
    instances.gt_masks.tensor[0, :3] = instances.gt_masks.tensor[1, 2:] = True
    sample = {
        "image": torch.full((3, 4, 5), 90, dtype=torch.uint8),
        "sem_seg": torch.zeros(4, 5, dtype=torch.int64),
        "instances": instances,
    }
    pictures = sample_pictures(sample, np.zeros((7, 3)))
    assert list(pictures) == ["image", "classes", "masks on a pixel"]
    rows = pictures["masks on a pixel"].astype(int).sum(axis=(1, 2))
    # Row 2 has both, the others have one each.
    assert rows[0] == rows[1] == rows[3] != rows[2]


def test_the_other_frame_and_depth_are_shown_where_a_sample_has_them():
    maps = {
        "image": torch.zeros(3, 4, 5),
        "sem_seg": torch.zeros(4, 5, dtype=torch.int64),
        "sem_seg_weights": torch.ones(4, 5),
        "previous_image": torch.full((3, 4, 5), 255.0),
        "previous_heatmap": torch.zeros(1, 4, 5),
        "frame_offsets": torch.ones(2, 4, 5),
        "frame_offset_weights": torch.eye(4, 5),
        "depth": torch.rand(4, 5),
    }
    pictures = sample_pictures(maps, np.zeros((7, 3)))
    assert list(pictures)[3:] == [
        "previous image",
        "previous centers",
        "offsets to the previous frame",
        "depth",
    ]
    assert {picture.shape for picture in pictures.values()} == {(4, 5, 3)}
    assert np.all(pictures["previous image"] == 255)
    offsets = pictures["offsets to the previous frame"]
    assert np.array_equal(offsets.any(axis=-1), np.eye(4, 5, dtype=bool))


def test_the_command_draws_the_same_sheet_for_the_same_seed(registered_shapes, tmp_path, capsys):
    def draw(name, seed):
        output = str(tmp_path / name)
        options = ["--crop", "65", "97", "--num-samples", "2", "--seed", seed, "--output", output]
        assert main([registered_shapes[0], *options]) == 0
        return np.asarray(Image.open(output))

    first = draw("a.png", "1")
    assert first.shape[0] > 2 * 65 and first.shape[1] > 5 * 97
    assert np.array_equal(first, draw("b.png", "1"))
    assert not np.array_equal(first, draw("c.png", "2"))
    assert "train/00000" in capsys.readouterr().out


def test_a_name_that_is_not_registered_is_named(capsys):
    assert main(["no_such_set"]) == 1
    assert "no_such_set" in capsys.readouterr().err


def test_the_legend_names_the_classes_of_the_samples_and_what_is_unlabeled():
    colors = np.arange(9, dtype=np.uint8).reshape(3, 3)
    samples = [{"sem_seg": torch.tensor([[0, 2]])}, {"sem_seg": torch.tensor([[2, 2]])}]
    named = [("sky", [0, 1, 2]), ("car", [6, 7, 8])]
    assert sample_legend(samples, ["sky", "road", "car"], colors) == named
    samples[1]["sem_seg"][0, 0] = 255
    assert sample_legend(samples, ["sky", "road", "car"], colors) == [*named, ("unlabeled", None)]
