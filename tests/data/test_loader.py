import itertools
import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_panoptic

from deeplab2_d2.data import build_test_loader, build_train_loader
from deeplab2_d2.data.loader import ResumableTrainingSampler, load_dataset_dicts
from deeplab2_d2.data.shapes import shapes_metadata
from deeplab2_d2.models.panoptic_deeplab.targets import build_mapper


def _keys(num_iterations, **arguments):
    arguments = {"total_batch_size": 4, "seed": 1, **arguments}
    sampler = ResumableTrainingSampler(5, **arguments)
    return list(itertools.islice(sampler, num_iterations * sampler.batch_size))


def _batches(cfg, num_iterations, **arguments):
    mapper = build_mapper(cfg, is_train=True)
    return list(itertools.islice(build_train_loader(cfg, mapper, **arguments), num_iterations))


def _equal(batches, others):
    return all(
        torch.equal(sample[key], other[key])
        for batch, other_batch in zip(batches, others)
        for sample, other in zip(batch, other_batch)
        for key in ("image", "sem_seg", "center_offsets")
    )


def test_each_pass_has_every_image_once_in_a_new_order():
    indices = np.array([key.image_index for key in _keys(15)]).reshape(-1, 5)
    assert np.array_equal(np.sort(indices, axis=1), np.tile(np.arange(5), (12, 1)))
    assert len({tuple(row) for row in indices.tolist()}) > 6


def test_a_sampler_started_later_goes_on_where_the_first_would_be():
    assert _keys(9, start_iteration=6) == _keys(15)[6 * 4 :]


def test_processes_share_each_batch_out_among_them():
    whole = _keys(10)
    parts = [_keys(10, rank=rank, world_size=2) for rank in range(2)]
    for k in range(10):
        batch = [key for part in parts for key in part[2 * k : 2 * k + 2]]
        assert batch == whole[4 * k : 4 * k + 4]


def test_another_seed_gives_another_order():
    assert _keys(10) != _keys(10, seed=2)


@pytest.mark.parametrize(
    "change, name",
    [
        ({"total_batch_size": 0}, "total_batch_size"),
        ({"total_batch_size": 3, "world_size": 2}, "total_batch_size"),
        ({"start_iteration": -1}, "start_iteration"),
    ],
)
def test_a_wrong_argument_of_the_sampler_is_named(change, name):
    with pytest.raises(ValueError, match=name):
        _keys(1, **change)


def test_a_resumed_loader_gives_the_samples_of_the_uninterrupted_one(shapes_cfg):
    whole = _batches(shapes_cfg, 5)
    assert _equal(whole[3:], _batches(shapes_cfg, 2, start_iteration=3))
    assert not _equal(whole[:2], whole[2:4])


def test_the_number_of_workers_does_not_change_the_samples(shapes_cfg):
    alone = _batches(shapes_cfg, 4)
    shapes_cfg.DATALOADER.NUM_WORKERS = 3
    assert _equal(alone, _batches(shapes_cfg, 4))


def test_the_same_image_twice_in_a_batch_is_augmented_differently(shapes_cfg):
    shapes_cfg.SOLVER.IMS_PER_BATCH = 8
    (batch,) = _batches(shapes_cfg, 1)
    images = {}
    for sample in batch:
        images.setdefault(sample["file_name"], []).append(sample["image"])
    assert len(images) == 4
    assert all(not torch.equal(first, second) for first, second in images.values())


def test_without_a_seed_in_the_config_two_loaders_differ(shapes_cfg):
    shapes_cfg.SEED = -1
    assert not _equal(_batches(shapes_cfg, 2), _batches(shapes_cfg, 2))


def test_a_sampler_that_cannot_be_resumed_is_refused(shapes_cfg):
    shapes_cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    with pytest.raises(ValueError, match="DATALOADER.SAMPLER_TRAIN must be 'TrainingSampler'"):
        build_train_loader(shapes_cfg, build_mapper(shapes_cfg, is_train=True))


def test_the_test_loader_gives_every_image_once(shapes_cfg):
    mapper = build_mapper(shapes_cfg, is_train=False)
    batches = list(build_test_loader(shapes_cfg, shapes_cfg.DATASETS.TEST[0], mapper))
    assert [[sample["image_id"] for sample in batch] for batch in batches] == [[1], [2]]


def test_a_dataset_that_is_not_there_is_named_with_its_path(tmp_path):
    root = str(tmp_path / "no_such_folder")
    register_coco_panoptic("test_absent", shapes_metadata(), root, root, root + ".json")
    try:
        with pytest.raises(FileNotFoundError, match="test_absent: .*no_such_folder.*DATASETS is"):
            load_dataset_dicts(["test_absent"])
    finally:
        DatasetCatalog.remove("test_absent")
        MetadataCatalog.remove("test_absent")


def test_a_category_that_the_metadata_lacks_is_named_with_its_file(shapes_folder, tmp_path):
    json_file = tmp_path / "panoptic_wrong.json"
    content = json.loads((shapes_folder / "annotations" / "panoptic_val.json").read_text())
    content["annotations"][0]["segments_info"][0]["category_id"] = 77
    json_file.write_text(json.dumps(content))
    folders = str(shapes_folder / "val"), str(shapes_folder / "panoptic_val")
    register_coco_panoptic("test_wrong", shapes_metadata(), *folders, str(json_file))
    try:
        with pytest.raises(
            ValueError, match="test_wrong: .*panoptic_wrong.json has category id 77"
        ):
            load_dataset_dicts(["test_wrong"])
    finally:
        DatasetCatalog.remove("test_wrong")
        MetadataCatalog.remove("test_wrong")


def test_an_entry_that_the_annotation_lacks_is_named_with_its_file(shapes_folder, tmp_path):
    json_file = tmp_path / "panoptic_wrong.json"
    content = json.loads((shapes_folder / "annotations" / "panoptic_val.json").read_text())
    del content["annotations"][0]["segments_info"]
    json_file.write_text(json.dumps(content))
    folders = str(shapes_folder / "val"), str(shapes_folder / "panoptic_val")
    register_coco_panoptic("test_wrong", shapes_metadata(), *folders, str(json_file))
    try:
        with pytest.raises(ValueError, match="panoptic_wrong.json lacks an entry 'segments_info'"):
            load_dataset_dicts(["test_wrong"])
    finally:
        DatasetCatalog.remove("test_wrong")
        MetadataCatalog.remove("test_wrong")


def test_a_name_that_is_not_registered_is_named():
    with pytest.raises(KeyError, match="no_such_set is not registered"):
        load_dataset_dicts(["no_such_set"])
