"""The best checkpoint by a metric, and the end of a training that has become no better."""

import logging
import math
import os
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Optional, Tuple

from detectron2.config import CfgNode
from detectron2.engine import hooks
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from ..checkpoint import DeepLab2Checkpointer
from ..structures import read_json_object, write_json
from .config_error import ConfigError

logger = logging.getLogger(__name__)

BEST_NAME = "model_best"
_KEY = "SOLVER.DEEPLAB2.BEST_METRIC"


class TrainingExhausted(BaseException):
    """A training that has become no better for long. No ``Exception``, which would be logged."""


class KeepBest(hooks.BestCheckpointer):
    """
    Detectron2's ``BestCheckpointer`` that survives a resumption and counts what became no better.

    It stands after ``EvalHook`` in every process of the job, and is told the results by
    :meth:`watch`. What it knows goes to ``best.json`` beside the checkpoints after each evaluation,
    so that a resumed run knows of evaluations after its checkpoint, too.

    Attributes:
        best_metric, best_iter: of the best evaluation, None without any.
        is_exhausted: the last ``patience`` evaluations were no better; the same in all processes.
    """

    best_metric: Any
    best_iter: Any

    def __init__(
        self, eval_period: int, checkpointer: DeepLab2Checkpointer, metric: str, patience: int = 0
    ):
        """
        Args:
            eval_period: as of ``EvalHook``.
            checkpointer: of the training.
            metric: name in the flattened results, as "panoptic_seg/PQ"; with "-" before it, less
                is better.
            patience: evaluations without a better one after which the training is exhausted; 0 =
                never.
        """
        mode = "min" if metric.startswith("-") else "max"
        kept: Any = SimpleNamespace(save=checkpointer.keep)
        super().__init__(eval_period, kept, metric.lstrip("-"), mode, BEST_NAME)
        self.is_exhausted = False
        self._logger = logger
        self._patience = patience
        self._path = os.path.join(checkpointer.save_dir, "best.json")
        self._model_path = os.path.join(checkpointer.save_dir, f"{BEST_NAME}.pth")
        self._evaluated: List[int] = []  # iterations
        self._scores: Dict[str, float] = {}

    def watch(self, evaluate: Callable[[], Any]) -> Callable[[], Any]:
        """The function of ``EvalHook``, whose results are remembered."""

        def evaluate_and_remember() -> Any:
            results = evaluate()
            self._scores = flatten_results_dict(results) if results else {}
            return results

        return evaluate_and_remember

    def before_train(self) -> None:
        if comm.is_main_process() and self.trainer.start_iter > 0:
            self._read()
        self._agree()

    def _best_checking(self) -> None:
        refusal = None
        # An evaluation that a signal has ended has no results.
        if comm.is_main_process() and self._scores:
            refusal = check_metric(self._val_metric, self._scores)
            if refusal is None:
                # After training, the trainer is at the next iteration.
                last = min(self.trainer.iter, self.trainer.max_iter - 1)
                self._add(float(self._scores[self._val_metric]), last)
        self._scores = {}
        self._agree(refusal)

    def _add(self, value: float, iteration: int) -> None:
        is_first = self.best_metric is None
        is_better = math.isfinite(value) and (is_first or self._compare(value, self.best_metric))
        self._evaluated = [k for k in self._evaluated if k < iteration] + [iteration]
        if is_better:
            self._checkpointer.save(self._file_prefix, iteration=iteration)
            self._update_best(value, iteration)
            logger.info("%s %.4f is the best yet: %s", self._val_metric, value, self._model_path)
        elif self.best_metric is not None:
            best = (self.best_metric, self.best_iter + 1, self._stale())
            message = "%s %.4f is no better than %.4f after %d iterations (%d evaluations since)"
            logger.info(message, self._val_metric, value, *best)
        content = {
            "metric": self._val_metric,
            "value": self.best_metric,
            "iteration": self.best_iter,
            "evaluated": self._evaluated,
        }
        write_json(self._path, content)

    def _stale(self) -> int:
        """Evaluations after the best one, or without any."""
        best = -1 if self.best_iter is None else self.best_iter
        return sum(iteration > best for iteration in self._evaluated)

    def _agree(self, refusal: Optional[str] = None) -> None:
        """Let all processes know what the first one has found."""
        is_exhausted = 0 < self._patience <= self._stale()
        found: Tuple[Optional[str], bool] = comm.all_gather((refusal, is_exhausted))[0]
        if found[0] is not None:
            raise ConfigError(found[0])
        self.is_exhausted = found[1]

    def _read(self) -> None:
        """What the run had found before it was resumed."""
        if not os.path.isfile(self._path):
            return
        state = read_json_object(self._path)
        if state.get("metric") != self._val_metric or not os.path.isfile(self._model_path):
            logger.warning(
                "the best checkpoint begins anew: %s is of %s, or %s is not there",
                self._path,
                state.get("metric"),
                self._model_path,
            )
            return
        value, iteration = state.get("value"), state.get("iteration")
        if isinstance(value, (int, float)) and isinstance(iteration, int):
            self._update_best(float(value), iteration)
        # Later ones come again.
        evaluated = [k for k in state.get("evaluated", []) if isinstance(k, int)]
        self._evaluated = [k for k in evaluated if k < self.trainer.start_iter]

    def end(self, checkpointer: DeepLab2Checkpointer) -> None:
        """Save what a whole run ends with, and say why this one has ended."""
        if not comm.is_main_process():
            return
        last = self._evaluated[-1]
        if checkpointer.newest_name() != "model_final.pth":
            checkpointer.save("model_final", iteration=last)
        logger.info(
            "the training ends after %d iterations, as SOLVER.DEEPLAB2.PATIENCE says: %s was best "
            "after %s, and no better in %d evaluations since",
            last + 1,
            self._val_metric,
            "none" if self.best_iter is None else self.best_iter + 1,
            self._stale(),
        )


def build_keep_best(cfg: CfgNode, checkpointer: DeepLab2Checkpointer) -> Optional[KeepBest]:
    """The hook that SOLVER.DEEPLAB2.BEST_METRIC asks for, or None."""
    node = cfg.SOLVER.DEEPLAB2
    if not node.BEST_METRIC:
        return None
    return KeepBest(cfg.TEST.EVAL_PERIOD, checkpointer, node.BEST_METRIC, node.PATIENCE)


def check_metric(metric: str, scores: Dict[str, Any]) -> Optional[str]:
    """Why a metric cannot be used with flattened results; None if it can."""
    name = metric.lstrip("-")
    if name in scores:
        return None
    has = ", ".join(sorted(scores)) or "nothing"
    return f"config key {_KEY} must be a metric of the evaluation, got {metric!r}; it has {has}"
