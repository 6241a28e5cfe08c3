"""Learning rates as DeepLab2 computes them, warm-up, then a poly or a cosine fall; and in steps."""

import math
from typing import Any, Dict, List, Sequence

import torch
from fvcore.common.param_scheduler import ParamScheduler

SCHEDULES = ("poly", "cosine", "step")


def compute_learning_rate(
    iteration: int,
    *,
    base_lr: float,
    max_iter: int,
    schedule: str = "poly",
    poly_power: float = 0.9,
    end_lr: float = 0.0,
    warmup_iters: int = 0,
    warmup_factor: float = 0.0,
    steps: Sequence[int] = (),
    gamma: float = 0.1,
) -> float:
    """
    Learning rate of the update number ``iteration``, counted from 0.

    During the warm-up it rises linearly from ``warmup_factor * base_lr`` to ``base_lr``; in
    DeepLab2 from 0, at the first update. Then it follows the schedule at ``iteration`` itself: the
    warm-up replaces the beginning of the schedule and does not delay it, so the rate drops a little
    where it ends.

    Args:
        iteration: at least 0. From ``max_iter`` on, the rate is ``end_lr``, but for "step".
        base_lr: rate at the start of the schedule.
        max_iter: iteration at which the schedule ends, at least 1.
        schedule: "poly", "cosine", or "step".
        poly_power: exponent of "poly".
        end_lr: rate at the end.
        warmup_iters: length of the warm-up; 0 = none.
        warmup_factor: where it begins.
        steps: of "step", the iterations from which the rate is multiplied by ``gamma`` once more.
        gamma: of "step".

    Raises:
        ValueError: if ``schedule`` is unknown.
    """
    if iteration < warmup_iters:
        left = warmup_iters - iteration
        return base_lr * (iteration + warmup_factor * left) / warmup_iters
    if schedule == "step":
        return float(base_lr * gamma ** sum(iteration >= step for step in steps))
    progress = min(iteration / max_iter, 1.0)
    if schedule == "poly":
        remaining = (1.0 - progress) ** poly_power
    elif schedule == "cosine":
        remaining = 0.5 * (1.0 + math.cos(math.pi * progress))
    else:
        raise ValueError(f"schedule must be one of {SCHEDULES}, got {schedule!r}")
    return end_lr + (base_lr - end_lr) * remaining


# PyTorch renamed the base class; Detectron2 0.6 saves and restores the old name's subclasses only.
class DeepLab2LRScheduler(torch.optim.lr_scheduler._LRScheduler):
    """
    :func:`compute_learning_rate` for every parameter group of an optimizer.

    A group's base rate is the rate that it was built with; ``end_lr`` is common to all, as in
    DeepLab2. The state is the iteration alone: a resumed run follows the schedule that it is
    resumed with.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        max_iter: int,
        schedule: str = "poly",
        poly_power: float = 0.9,
        end_lr: float = 0.0,
        warmup_iters: int = 0,
        warmup_factor: float = 0.0,
        steps: Sequence[int] = (),
        gamma: float = 0.1,
    ):
        """
        Args: as :func:`compute_learning_rate`.

        Raises:
            ValueError: if ``schedule`` is unknown or ``max_iter`` is below 1.
        """
        if max_iter < 1:
            raise ValueError(f"max_iter must be at least 1, got {max_iter}")
        if schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {SCHEDULES}, got {schedule!r}")
        self._options: Dict[str, Any] = {
            "max_iter": max_iter,
            "schedule": schedule,
            "poly_power": poly_power,
            "end_lr": end_lr,
            "warmup_iters": warmup_iters,
            "warmup_factor": warmup_factor,
            "steps": tuple(steps),
            "gamma": gamma,
        }
        super().__init__(optimizer)

    def get_lr(self) -> List[Any]:
        return [
            compute_learning_rate(self.last_epoch, base_lr=float(base_lr), **self._options)
            for base_lr in self.base_lrs
        ]

    def state_dict(self) -> Dict[str, Any]:
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        self.last_epoch = state_dict["last_epoch"]
        self._last_lr = self.get_lr()
        for group, learning_rate in zip(self.optimizer.param_groups, self._last_lr):
            group["lr"] = learning_rate


class LearningRateFactor(ParamScheduler):
    """
    The schedule as a factor on every group's learning rate, as Detectron2's LazyConfigs have it.

    With an ``end_lr`` of 0 the rates are those of :class:`DeepLab2LRScheduler`.
    """

    def __init__(self, *, max_iter: int, **options: Any):
        """
        Args:
            max_iter, options: see :func:`compute_learning_rate`; rates are of a ``base_lr`` of 1.

        Raises:
            ValueError: if ``max_iter`` is below 1.
        """
        if max_iter < 1:
            raise ValueError(f"max_iter must be at least 1, got {max_iter}")
        self._max_iter, self._options = max_iter, options

    def __call__(self, where: float) -> float:
        """
        Args:
            where: iterations done, over all.
        """
        iteration = round(where * self._max_iter)
        return compute_learning_rate(
            iteration, base_lr=1.0, max_iter=self._max_iter, **self._options
        )
