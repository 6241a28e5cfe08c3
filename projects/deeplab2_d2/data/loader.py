"""
Data loaders whose stream of samples is a function of the seed and the iteration alone.

Detectron2's training sampler starts from the beginning when training is resumed, and its workers
draw augmentations from a global state that depends on how many of them there are. Here a sample
is known by (seed, iteration, place in the batch): training that was interrupted goes on with the
samples it would have had, whatever the number of workers. The loaders themselves are Detectron2's.
"""

import contextlib
import itertools
import os
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.utils import comm
from torch.utils.data import IterableDataset, get_worker_info

from ..records import DatasetMapper
from ..structures import check_distinct
from .catalog import check_registered
from .samplers import SampleKey, SequenceSampler, build_sample_keys

# Images that a mapper may leave out in turn.
_MOST_TRIES = 1000
# Metadata that names a file or a folder which has to be there before anything is read.
_PATHS = ("panoptic_json", "panoptic_root", "image_root")


class SampleStream(IterableDataset):
    """
    An endless stream of samples, batch by batch, that can start at any iteration.

    Each data worker makes whole iterations, every one of which is worker
    ``(iteration - start) % workers``'s, in the order in which the loader asks them.
    """

    def __init__(
        self,
        dataset: Sequence[Dict[str, Any]],
        mapper: DatasetMapper,
        keys: Callable[[], Iterator[SampleKey]],
        *,
        batch_size: int,
        seed: int,
    ):
        """
        Args:
            dataset: dataset dicts.
            mapper: to samples.
            keys: a new iterator over the keys of this process's samples, in order.
            batch_size: keys of an iteration.
            seed: of the mapper's generators.
        """
        super().__init__()
        self.dataset = dataset
        self.mapper = mapper
        self.keys = keys
        self.batch_size = batch_size
        self.seed = seed

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        worker = get_worker_info()
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        if worker is not None:
            # Ctrl-C, and what ends a job's process group, is for the training alone: it finishes
            # its step, for which it may still need this process, and ends it then.
            os.setpgid(0, 0)
        keys = self.keys()
        for index in itertools.count():
            batch = list(itertools.islice(keys, self.batch_size))
            if index % count == number:
                yield from map(self._sample, batch)

    def _sample(self, key: SampleKey) -> Dict[str, Any]:
        # The trailing 1 keeps these streams apart from those of the passes.
        rng = np.random.default_rng([self.seed, key.iteration, key.slot, 1])
        dataset_dict = self.dataset[key.image_index]
        with _one_thread():
            for _ in range(_MOST_TRIES):
                partner = None
                if self.mapper.needs_partner:
                    partner = self.dataset[int(rng.integers(len(self.dataset)))]
                sample = self.mapper(dataset_dict, rng, partner)
                if sample is not None:
                    return sample
                # Detectron2's mappers may leave an image out; another takes its place.
                dataset_dict = self.dataset[int(rng.integers(len(self.dataset)))]
        raise ValueError(
            f"the mapper must make samples, but left out {_MOST_TRIES} images in turn, before "
            f"{dataset_dict.get('file_name', 'one without a file_name')}"
        )


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
    mapper: DatasetMapper,
    *,
    dataset_dicts: Optional[List[Dict[str, Any]]] = None,
    start_iteration: int = 0,
    seed: Optional[int] = None,
) -> Iterable[List[Dict[str, Any]]]:
    """
    The loader of training batches: Detectron2's, of a :class:`SampleStream`.

    Args:
        cfg: DATASETS.TRAIN, SOLVER.IMS_PER_BATCH (over all processes), DATALOADER.NUM_WORKERS and
            SAMPLER_TRAIN, any of Detectron2's, with its options.
        mapper: called with a dataset dict and a generator.
        dataset_dicts: instead of those of DATASETS.TRAIN.
        start_iteration: the first iteration wanted; that of the checkpoint when resuming.
        seed: default SEED of the config, or where that is negative one random number that all
            processes agree on.

    Returns:
        an endless iterable of lists of samples, this process's part of the batch.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_dataset_dicts` and
            :func:`build_sample_keys`.
    """
    if seed is None:
        seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    if dataset_dicts is None:
        dataset_dicts = load_dataset_dicts(cfg.DATASETS.TRAIN)
    keys = build_sample_keys(cfg, dataset_dicts, seed=seed, start_iteration=start_iteration)
    stream = SampleStream(
        DatasetFromList(dataset_dicts, copy=False),
        mapper,
        keys,
        batch_size=cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
        seed=seed,
    )
    return build_detection_train_loader(
        stream,
        mapper=None,
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def build_test_loader(
    cfg: CfgNode,
    dataset_name: str,
    mapper: Callable[[Dict[str, Any]], Any],
    *,
    dataset_dicts: Optional[List[Dict[str, Any]]] = None,
) -> Iterable[List[Dict[str, Any]]]:
    """
    Detectron2's test loader with our mapper, its dataset checked first.

    Args:
        cfg: INPUT.{MIN,MAX}_SIZE_TEST, DATALOADER.NUM_WORKERS.
        dataset_name: of a registered dataset.
        mapper: called with a dataset dict.
        dataset_dicts: instead of those of the dataset.

    Returns:
        an iterable of lists of one sample, this process's part of the dataset: frames of a
        sequence stay together, in their order.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_dataset_dicts`.
    """
    if dataset_dicts is None:
        dataset_dicts = load_dataset_dicts([dataset_name])
    return build_detection_test_loader(
        dataset_dicts,
        mapper=mapper,
        sampler=SequenceSampler.for_dataset(dataset_dicts),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
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
        ValueError: if a dataset has no image, an annotation has a category that the dataset's
            metadata lacks, or an image is there twice.
    """
    dicts: List[Dict[str, Any]] = []
    for name in names:
        check_dataset_paths(name)
        try:
            own = DatasetCatalog.get(name)
        except KeyError as error:
            json_file = MetadataCatalog.get(name).get("panoptic_json")
            # Detectron2's loaders look categories up without a word about where they came from.
            if isinstance(error.args[0], int):
                raise ValueError(
                    f"dataset {name}: {json_file} has category id {error}, which the dataset's "
                    f"metadata does not have"
                ) from error
            raise ValueError(f"dataset {name}: {json_file} lacks an entry {error}") from error
        if not own:
            source = MetadataCatalog.get(name).get("panoptic_json") or "its loader"
            raise ValueError(f"dataset {name} must have an annotated image, got none of {source}")
        check_distinct((d["image_id"] for d in own if "image_id" in d), f"dataset {name}")
        dicts.extend(own)
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
    check_registered(name)
    metadata = MetadataCatalog.get(name)
    for key in (*_PATHS, "json_file") if metadata.get("has_instances") else _PATHS:
        path = metadata.get(key)
        if path and "://" not in path and not os.path.exists(path):
            root = os.environ.get("DETECTRON2_DATASETS", "datasets (the default)")
            raise FileNotFoundError(
                f"dataset {name}: {key} {path} does not exist. DETECTRON2_DATASETS is {root}; "
                f"datasets/README.md has the folder trees and how to make them"
            )
