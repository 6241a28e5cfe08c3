"""
Data loaders whose stream of samples is a function of the seed and the iteration alone.

Detectron2's training sampler starts from the beginning when training is resumed, and its workers
draw augmentations from a global state that depends on how many of them there are. Here a sample
is known by (seed, iteration, place in the batch): training that was interrupted goes on with the
samples it would have had, whatever the number of workers; and where the total batch size is kept,
also with another number of processes.
"""

import contextlib
import os
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    MetadataCatalog,
    build_detection_test_loader,
)
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

# Metadata that names a file or a folder which has to be there before anything is read.
_PATHS = ("panoptic_json", "panoptic_root", "image_root")


class SampleKey(NamedTuple):
    """What a training sample depends on, beside the seed."""

    iteration: int
    slot: int
    image_index: int


class ResumableTrainingSampler(Sampler):
    """
    Endless shuffled stream of samples that can start at any iteration.

    The dataset is permuted anew in each pass; a batch may reach over the end of a pass.

    Args:
        size: number of images, at least 1.
        total_batch_size: images in an iteration, over all processes.
        seed: equal seeds give equal streams.
        start_iteration: the first iteration wanted.
        rank, world_size: of this process; each takes its equal part of every batch.
    """

    def __init__(
        self,
        size: int,
        *,
        total_batch_size: int,
        seed: int,
        start_iteration: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        if total_batch_size < 1 or total_batch_size % world_size != 0:
            raise ValueError(
                f"total_batch_size must be a multiple of the {world_size} processes, got "
                f"{total_batch_size}"
            )
        if start_iteration < 0:
            raise ValueError(f"start_iteration must not be negative, got {start_iteration}")
        self.size = size
        self.total_batch_size = total_batch_size
        self.seed = seed
        self.start_iteration = start_iteration
        self.batch_size = total_batch_size // world_size
        self.rank = rank

    def __iter__(self) -> Iterator[SampleKey]:
        iteration, current_pass = self.start_iteration, -1
        while True:
            for k in range(self.batch_size):
                slot = self.rank * self.batch_size + k
                wanted_pass, place = divmod(iteration * self.total_batch_size + slot, self.size)
                if wanted_pass != current_pass:
                    current_pass = wanted_pass
                    order = np.random.default_rng([self.seed, current_pass]).permutation(self.size)
                yield SampleKey(iteration, slot, int(order[place]))
            iteration += 1


class _SeededDataset(Dataset):
    """Applies a mapper with a generator that is seeded by the sample's key."""

    def __init__(self, dataset: Sequence[Dict[str, Any]], mapper: Callable, seed: int):
        self.dataset = dataset
        self.mapper = mapper
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> Dict[str, Any]:
        # The trailing 1 keeps these streams apart from those of the sampler's passes.
        rng = np.random.default_rng([self.seed, key.iteration, key.slot, 1])
        dataset_dict = self.dataset[key.image_index]
        with _one_thread():
            if getattr(self.mapper, "needs_partner", False):
                return self.mapper(dataset_dict, rng, self.dataset[int(rng.integers(len(self)))])
            return self.mapper(dataset_dict, rng)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """
    As in a data worker: torch's interpolation rounds otherwise with another number of threads.
    """
    num_threads = torch.get_num_threads()
    if num_threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def build_train_loader(
    cfg: CfgNode,
    mapper: Callable,
    *,
    start_iteration: int = 0,
    seed: Optional[int] = None,
) -> Iterable[List[Dict[str, Any]]]:
    """
    The loader of training batches.

    Args:
        cfg: DATASETS.TRAIN, SOLVER.IMS_PER_BATCH (over all processes), DATALOADER.NUM_WORKERS,
            and what the mapper reads.
        mapper: called with a dataset dict and a generator.
        start_iteration: the first iteration wanted; that of the checkpoint when resuming.
        seed: default SEED of the config, or where that is negative one random number that all
            processes agree on.

    Returns:
        an endless iterable of lists of samples, this process's part of the batch.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_dataset_dicts`.
        ValueError: if DATALOADER.SAMPLER_TRAIN asks for another sampler.
    """
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise ValueError(
            f"DATALOADER.SAMPLER_TRAIN must be 'TrainingSampler', got "
            f"{cfg.DATALOADER.SAMPLER_TRAIN!r}: Detectron2's other samplers cannot be resumed"
        )
    if seed is None:
        seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    dataset = DatasetFromList(load_dataset_dicts(cfg.DATASETS.TRAIN), copy=False)
    sampler = ResumableTrainingSampler(
        len(dataset),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        seed=seed,
        start_iteration=start_iteration,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
    )
    return DataLoader(
        _SeededDataset(dataset, mapper, seed),
        batch_size=sampler.batch_size,
        sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=_keep_list,
    )


def build_test_loader(
    cfg: CfgNode, dataset_name: str, mapper: Callable
) -> Iterable[List[Dict[str, Any]]]:
    """
    Detectron2's test loader with our mapper, its dataset checked first.

    Args:
        cfg: INPUT.{MIN,MAX}_SIZE_TEST, DATALOADER.NUM_WORKERS.
        dataset_name: of a registered dataset.
        mapper: called with a dataset dict.

    Returns:
        an iterable of lists of one sample, this process's part of the dataset.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_dataset_dicts`.
    """
    return build_detection_test_loader(
        load_dataset_dicts([dataset_name]), mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS
    )


def load_dataset_dicts(names: Sequence[str]) -> List[Dict[str, Any]]:
    """
    The dicts of one or more registered datasets.

    Args:
        names: as in DATASETS.TRAIN.

    Returns:
        all dicts, in the order of the names.

    Raises:
        FileNotFoundError: if a file or a folder that a dataset's metadata names does not exist.
        ValueError: if an annotation has a category that the dataset's metadata lacks.
    """
    dicts: List[Dict[str, Any]] = []
    for name in names:
        check_dataset_paths(name)
        try:
            dicts.extend(DatasetCatalog.get(name))
        except KeyError as error:
            json_file = MetadataCatalog.get(name).get("panoptic_json")
            # Detectron2's loaders look categories up without a word about where they came from.
            if isinstance(error.args[0], int):
                raise ValueError(
                    f"dataset {name}: {json_file} has category id {error}, which the dataset's "
                    f"metadata does not have"
                ) from error
            raise ValueError(f"dataset {name}: {json_file} lacks an entry {error}") from error
    return dicts


def check_dataset_paths(name: str) -> None:
    """
    Check that a registered dataset is on disk.

    Args:
        name: of the dataset.

    Raises:
        KeyError: if no dataset of that name is registered.
        FileNotFoundError: if a file or a folder that its metadata names does not exist.
    """
    if name not in DatasetCatalog.list():
        raise KeyError(f"dataset {name} is not registered")
    metadata = MetadataCatalog.get(name)
    for key in _PATHS:
        path = metadata.get(key)
        if path and "://" not in path and not os.path.exists(path):
            root = os.environ.get("DETECTRON2_DATASETS", "datasets (the default)")
            raise FileNotFoundError(
                f"dataset {name}: {key} {path} does not exist. DETECTRON2_DATASETS is {root}; "
                f"datasets/README.md has the folder trees and how to make them"
            )


def _keep_list(samples: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    return samples
