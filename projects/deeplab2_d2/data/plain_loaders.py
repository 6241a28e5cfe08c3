"""The loaders with plain arguments, as LazyConfigs build them."""

from typing import Any, Dict, Iterable, List, Optional, Sequence, Union

from detectron2.data import (
    DatasetFromList,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.utils import comm

from ..records import DatasetMapper
from .loader import SampleStream, load_dataset_dicts
from .samplers import SequenceSampler, ShuffledKeys

Batches = Iterable[List[Dict[str, Any]]]


def train_loader(
    *,
    dataset: Union[str, Sequence[str]],
    mapper: DatasetMapper,
    total_batch_size: int,
    num_workers: int = 4,
    seed: Optional[int] = None,
    start_iteration: int = 0,
) -> Batches:
    """
    As :func:`build_train_loader`, with the sampler ``TrainingSampler``.

    Args:
        dataset: name of a registered dataset, or several.
        mapper: called with a dataset dict and a generator.
        total_batch_size: images of an iteration, over all processes.
        num_workers: processes that load.
        seed: None or negative: one random number that all processes agree on.
        start_iteration: the first iteration wanted.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_dataset_dicts`.
    """
    if seed is None or seed < 0:
        seed = comm.shared_random_seed()
    dicts = load_dataset_dicts([dataset] if isinstance(dataset, str) else list(dataset))
    keys = ShuffledKeys(
        len(dicts),
        total_batch_size=total_batch_size,
        seed=seed,
        start_iteration=start_iteration,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
    )
    stream = SampleStream(
        DatasetFromList(dicts, copy=False),
        mapper,
        lambda: iter(keys),
        batch_size=total_batch_size // comm.get_world_size(),
        seed=seed,
    )
    return build_detection_train_loader(
        stream,
        mapper=None,
        total_batch_size=total_batch_size,
        aspect_ratio_grouping=False,
        num_workers=num_workers,
    )


def test_loader(*, dataset: str, mapper: DatasetMapper, num_workers: int = 4) -> Batches:
    """
    As :func:`build_test_loader`.

    Args:
        dataset: name of a registered dataset.
        mapper: called with a dataset dict.
        num_workers: processes that load.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_dataset_dicts`.
    """
    dicts = load_dataset_dicts([dataset])
    return build_detection_test_loader(
        dicts,
        mapper=mapper,
        sampler=SequenceSampler.for_dataset(dicts),
        num_workers=num_workers,
    )
