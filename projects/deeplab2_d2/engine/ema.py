"""Exponential moving average of a model's weights."""

import contextlib
import logging
from typing import Any, Callable, Dict, Iterator

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

logger = logging.getLogger(__name__)


class WeightAverage:
    """
    Running average of all parameters, and the newest value of all buffers.

    ``average = decay * average + (1 - decay) * parameter`` after every optimizer step, starting
    from the weights at the time of construction, or of loading.

    Args:
        model: whose state is averaged; not changed but by :meth:`swapped_in`.
        decay: in (0, 1).

    Raises:
        ValueError: if ``decay`` is not in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float):
        if not 0.0 < decay < 1.0:
            raise ValueError(f"decay must be in (0, 1), got {decay}")
        self.model = model
        self.decay = decay
        self.average: Dict[str, Tensor] = {}
        self.is_loaded = False
        # A launch for all parameters together.
        self._move = get_ema_multi_avg_fn(decay)
        self.restart()

    def restart(self) -> None:
        """Begin again from the model's present weights."""
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        state = self.model.state_dict()
        parameters = {n for n, _ in self.model.named_parameters(remove_duplicate=False)}
        averaged = [name for name in state if name in parameters]
        self._move([self.average[name] for name in averaged], [state[name] for name in averaged], 0)
        copied = [name for name in state if name not in parameters]
        if copied:
            torch._foreach_copy_([self.average[n] for n in copied], [state[n] for n in copied])

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Let the model have the averaged weights inside a ``with`` block."""
        kept = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        try:
            yield
        finally:
            self.model.load_state_dict(kept)

    def during(self, evaluate: Callable[[], Any]) -> Callable[[], Any]:
        """A function that lets the model have the averaged weights while it runs another."""

        def evaluate_average() -> Any:
            with self.swapped_in():
                return evaluate()

        return evaluate_average

    def state_dict(self) -> Dict[str, Tensor]:
        return self.average

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        missing = self.average.keys() ^ state_dict.keys()
        if missing:
            raise KeyError(f"the averaged weights do not fit the model: {sorted(missing)}")
        for name, value in self.average.items():
            value.copy_(state_dict[name])
        self.is_loaded = True


class WeightAverageHook(HookBase):
    """Update an average after every training step."""

    def __init__(self, average: WeightAverage):
        self.average = average

    def before_train(self) -> None:
        # A fresh run has loaded pretrained weights since construction; a resumed one may go on from
        # a checkpoint without an average.
        if self.average.is_loaded:
            return
        if self.trainer.start_iter > 0:
            logger.warning(
                "the checkpoint has no averaged weights: the average begins at iteration %d",
                self.trainer.start_iter,
            )
        self.average.restart()

    def after_step(self) -> None:
        self.average.update()
