"""How fast a training runs, and what memory it takes."""

import logging
import resource
import time

import torch
from detectron2.engine import HookBase

logger = logging.getLogger(__name__)


def peak_memory() -> float:
    """Peak in GiB: of the GPU where there is one, else of this process (resident)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB


class Throughput(HookBase):
    """
    Log a line every so often, and keep the scalar ``images_per_second``.

    The first iteration is left out: it starts the data workers.
    """

    def __init__(self, images_per_step: int, period: int):
        """
        Args:
            images_per_step: of all processes and all accumulated batches.
            period: iterations between two lines, at least 1.
        """
        self.images_per_step = images_per_step
        self.period = period
        self._steps = 0
        self._data_time = 0.0
        self._start = 0.0

    def after_step(self) -> None:
        storage = self.trainer.storage
        if self.trainer.iter > self.trainer.start_iter:
            self._steps += 1
            self._data_time += storage.history("data_time").latest()
        if self._steps == self.period:
            elapsed = time.perf_counter() - self._start
            rate = self._steps * self.images_per_step / elapsed
            storage.put_scalar("images_per_second", rate)
            logger.info(
                "throughput: %.2f images/s, %.1f ms a step of which data %.1f ms, "
                "peak memory %.2f GiB",
                rate,
                1e3 * elapsed / self._steps,
                1e3 * self._data_time / self._steps,
                peak_memory(),
            )
        if self._steps in (0, self.period):
            self._steps, self._data_time, self._start = 0, 0.0, time.perf_counter()
