"""Which image each place of each batch shows, in training; how a test set is shared out."""

import itertools
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

import numpy as np
from detectron2.config import CfgNode
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
)
from detectron2.utils import comm
from torch.utils.data import Sampler


class SampleKey(NamedTuple):
    """What a training sample depends on, beside the seed."""

    iteration: int
    slot: int
    image_index: int


def build_sample_keys(
    cfg: CfgNode, dataset_dicts: List[Dict[str, Any]], *, seed: int, start_iteration: int = 0
) -> Callable[[], Iterator[SampleKey]]:
    """
    The keys of this process's samples, by DATALOADER.SAMPLER_TRAIN.

    Args:
        cfg: SOLVER.IMS_PER_BATCH and the sampler's options.
        dataset_dicts: of all datasets.
        seed: equal seeds give equal streams.
        start_iteration: the first iteration wanted.

    Returns:
        A function that makes an endless iterator.

    Raises:
        ValueError: for a sampler that Detectron2 does not have.
    """
    name = cfg.DATALOADER.SAMPLER_TRAIN
    rank, world_size = comm.get_rank(), comm.get_world_size()
    total = cfg.SOLVER.IMS_PER_BATCH
    if name == "TrainingSampler":
        shuffled = ShuffledKeys(
            len(dataset_dicts),
            total_batch_size=total,
            seed=seed,
            start_iteration=start_iteration,
            rank=rank,
            world_size=world_size,
        )
        return lambda: iter(shuffled)
    sampler: Sampler
    if name == "RepeatFactorTrainingSampler":
        # Of panoptic datasets the segments are what the annotations are of others.
        annotated = [
            {"annotations": d.get("annotations", d.get("segments_info"))} for d in dataset_dicts
        ]
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            annotated, cfg.DATALOADER.REPEAT_THRESHOLD
        )
        sampler = RepeatFactorTrainingSampler(factors, seed=seed)
    elif name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
        sampler = RandomSubsetTrainingSampler(
            len(dataset_dicts), ratio, seed_shuffle=seed, seed_subset=seed
        )
    else:
        raise ValueError(
            "config key DATALOADER.SAMPLER_TRAIN must be TrainingSampler, "
            f"RepeatFactorTrainingSampler or RandomSubsetTrainingSampler, got {name!r}"
        )
    batch_size = total // world_size

    def keys() -> Iterator[SampleKey]:
        # A seeded stream, of which the first are skipped.
        first = start_iteration * batch_size
        for place, index in enumerate(itertools.islice(iter(sampler), first, None), start=first):
            iteration, k = divmod(place, batch_size)
            yield SampleKey(iteration, rank * batch_size + k, int(index))

    return keys


class ShuffledKeys:
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


class SequenceSampler(Sampler):
    """
    A test set shared out among processes, no sequence cut.

    Every process has whole sequences, in the order of the dataset. A process may have none, where
    there are more processes than sequences.

    Args:
        sequences: of each sample; equal ones stand side by side.
        rank, world_size: of this process.

    Raises:
        ValueError: if the samples of a sequence do not stand side by side.
    """

    def __init__(self, sequences: Sequence[str], *, rank: int = 0, world_size: int = 1):
        runs = [len(list(run)) for _, run in itertools.groupby(sequences)]
        if len(runs) != len(set(sequences)):
            raise ValueError("the samples of a sequence must stand side by side in the dataset")
        ends = np.cumsum([0, *runs])
        # The sequence goes to the process in whose equal share its middle lies.
        middles = (ends[:-1] + ends[1:]) / 2
        owners = np.minimum((middles * world_size / max(ends[-1], 1)).astype(int), world_size - 1)
        self._indices = [
            index
            for owner, start, end in zip(owners, ends[:-1], ends[1:])
            if owner == rank
            for index in range(start, end)
        ]

    @classmethod
    def for_dataset(cls, dataset_dicts: Sequence[Dict[str, Any]]) -> "Optional[SequenceSampler]":
        """The sampler of this process; None for a dataset without sequences."""
        sequences = [dataset_dict.get("sequence") for dataset_dict in dataset_dicts]
        if all(sequence is None for sequence in sequences):
            return None
        named = [
            sequence if sequence is not None else f"sample {index}"
            for index, sequence in enumerate(sequences)
        ]
        return cls(named, rank=comm.get_rank(), world_size=comm.get_world_size())

    def __iter__(self) -> Iterator[int]:
        yield from self._indices

    def __len__(self) -> int:
        return len(self._indices)
