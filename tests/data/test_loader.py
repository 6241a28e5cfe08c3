import itertools
import json
import random

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from detectron2.data.datasets import register_coco_panoptic
from detectron2.utils import comm

from deeplab2_d2.data import build_test_loader, build_train_loader
from deeplab2_d2.data.loader import SampleStream, load_dataset_dicts
from deeplab2_d2.data.samplers import SequenceSampler, ShuffledKeys, build_sample_keys
from deeplab2_d2.data.seeding import GloballySeeded
from deeplab2_d2.data.shapes import shapes_metadata
from deeplab2_d2.models.panoptic_deeplab.targets import build_mapper


def _keys(num_iterations, **arguments):
    arguments = {"total_batch_size": 4, "seed": 1, **arguments}
    sampler = ShuffledKeys(5, **arguments)
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


@pytest.mark.parametrize("sampler", ["RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"])
def test_detectron2s_other_samplers_go_on_where_they_would_be(shapes_cfg, sampler):
    shapes_cfg.DATALOADER.SAMPLER_TRAIN = sampler
    # A category that is in fewer images than all is repeated; half of the four images.
    shapes_cfg.DATALOADER.REPEAT_THRESHOLD = 1.0
    shapes_cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5
    whole = _batches(shapes_cfg, 6)
    files = {sample["file_name"] for batch in whole for sample in batch}
    assert len(files) == (2 if sampler.startswith("RandomSubset") else 4)
    shapes_cfg.DATALOADER.NUM_WORKERS = 2
    assert _equal(whole[3:], _batches(shapes_cfg, 3, start_iteration=3))


def test_images_of_a_rare_category_come_more_often(shapes_cfg):
    shapes_cfg.DATALOADER.SAMPLER_TRAIN = "RepeatFactorTrainingSampler"
    shapes_cfg.DATALOADER.REPEAT_THRESHOLD = 0.9
    shapes_cfg.SOLVER.IMS_PER_BATCH = 1
    # Category 1 is in a tenth of the images: its factor is sqrt(0.9 / 0.1) = 3.
    dicts = [{"segments_info": [{"category_id": int(k == 0)}]} for k in range(10)]
    keys = build_sample_keys(shapes_cfg, dicts, seed=0)()
    # A pass has the rare image three times and each of the others once.
    indices = [key.image_index for key in itertools.islice(keys, 12)]
    assert sorted(indices) == [0, 0, 0, *range(1, 10)]


def test_an_unknown_sampler_is_refused(shapes_cfg):
    shapes_cfg.DATALOADER.SAMPLER_TRAIN = "MySampler"
    with pytest.raises(ValueError, match="DATALOADER.SAMPLER_TRAIN must be .* got 'MySampler'"):
        build_train_loader(shapes_cfg, build_mapper(shapes_cfg, is_train=True))


def _draw(dataset_dict):
    """What a mapper of Detectron2's kind draws from global states."""
    numbers = [random.random(), np.random.rand(), float(torch.rand(()))]
    return {"image": torch.tensor([dataset_dict["number"], *numbers])}


def _stream(start):
    keys = ShuffledKeys(5, total_batch_size=2, seed=1, start_iteration=start)
    return SampleStream(
        [{"number": k} for k in range(5)],
        GloballySeeded(_draw),
        lambda: iter(keys),
        batch_size=2,
        seed=3,
    )


@pytest.mark.parametrize("num_workers", [0, 2, 3])
def test_any_mapper_sees_the_randomness_of_the_uninterrupted_run(num_workers):
    whole = [sample["image"] for sample in itertools.islice(_stream(0), 14)]
    loader = build_detection_train_loader(
        _stream(2), mapper=None, total_batch_size=2, aspect_ratio_grouping=False,
        num_workers=num_workers,
    )  # fmt: skip
    batches = itertools.islice(loader, 5)
    resumed = [sample["image"] for batch in batches for sample in batch]
    assert torch.equal(torch.stack(resumed), torch.stack(whole[4:]))


def test_a_globally_seeded_mapper_leaves_the_global_states_alone():
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    next(iter(_stream(0)))
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize(
    "lengths, world_size, expected",
    [
        ([3, 3], 2, [[0, 1, 2], [3, 4, 5]]),
        # The middle of the long one, 2.5 of 6, lies in the first half.
        ([5, 1], 2, [[0, 1, 2, 3, 4], [5]]),
        ([1, 4, 1], 3, [[0], [1, 2, 3, 4], [5]]),
        ([4], 3, [[], [0, 1, 2, 3], []]),
        ([1, 1, 1, 1], 2, [[0, 1], [2, 3]]),
    ],
)
def test_a_sequence_is_never_cut(lengths, world_size, expected):
    names = [name for name, length in zip("abcd", lengths) for _ in range(length)]
    parts = [list(SequenceSampler(names, rank=k, world_size=world_size)) for k in range(world_size)]
    assert parts == expected


def test_a_sequence_in_two_pieces_is_refused():
    with pytest.raises(ValueError, match="stand side by side"):
        SequenceSampler(["a", "b", "a"])


def test_frames_of_a_test_set_are_shared_out_by_sequence(monkeypatch):
    dicts = [{"sequence": "one"}] * 3 + [{"sequence": "two"}] * 3
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "get_rank", lambda: 1)
    assert list(SequenceSampler.for_dataset(dicts)) == [3, 4, 5]
    assert SequenceSampler.for_dataset([{}, {}]) is None


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
    with pytest.raises(KeyError, match="'no_such_set' is not registered"):
        load_dataset_dicts(["no_such_set"])
