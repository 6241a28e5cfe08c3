"""Mappers that draw from global states, made a function of one generator."""

import contextlib
import random
from typing import Any, Callable, Dict, Iterator, Optional

import numpy as np
import torch


@contextlib.contextmanager
def global_states(rng: np.random.Generator) -> Iterator[None]:
    """
    Seed the states of ``random``, NumPy and PyTorch (CPU) for a block, and restore them after it.

    Args:
        rng: where the seed is drawn from.
    """
    seed = int(rng.integers(2**31))
    states = random.getstate(), np.random.get_state()
    try:
        random.seed(seed)
        np.random.seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


class GloballySeeded:
    """
    Any mapper of Detectron2's kind, which draws from global states, as a :class:`DatasetMapper`.

    The states of ``random``, NumPy and PyTorch are seeded for each sample, and restored.
    """

    needs_partner = False

    def __init__(self, mapper: Callable[[Dict[str, Any]], Any]):
        self.mapper = mapper

    def __call__(
        self,
        dataset_dict: Dict[str, Any],
        rng: Optional[np.random.Generator] = None,
        partner: Optional[Dict[str, Any]] = None,
    ) -> Any:
        assert rng is not None
        with global_states(rng):
            return self.mapper(dataset_dict)
