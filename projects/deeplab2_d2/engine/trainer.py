"""Detectron2's DefaultTrainer with this project's mappers, optimizers and evaluators."""

import logging
import os
import weakref
from typing import Any, Callable, Dict, Iterator, List, Optional

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, hooks
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators, verify_results
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from detectron2.utils.logger import setup_logger
from torch import nn

from ..checkpoint import summarize_names
from ..models import Segmenter, check_classes, crf_from_config, refine_in_evaluation
from ..solver import build_lr_scheduler, build_optimizer
from ..structures import remove_leftovers
from ..video import SequenceRunner
from .best import TrainingExhausted, build_keep_best
from .checkpointing import build_checkpointer
from .ema import WeightAverageHook
from .evaluation_run import evaluators_at_work
from .evaluators import add_tracker, build_evaluators
from .interrupt import StopHook, StopSignals, TrainingStopped, describe_stop
from .loaders import build_test_loader, build_train_loader
from .preflight import check_device
from .reporting import build_writers, reporting_hooks
from .run_lock import locked_output_dir
from .training_parts import (
    ToldProgress,
    amp_dtype,
    build_average,
    compile_network,
    gradient_clipping,
    scale_learning_rate,
    wrap_for_processes,
)
from .training_step import TrainingStep

logger = logging.getLogger(__name__)


class DeepLab2Trainer(DefaultTrainer):
    """
    Train a model of this project, or any Detectron2 model, from a config.

    Differs from ``DefaultTrainer``: the data stream continues where a resumed run stopped, the
    step accumulates gradients and autocasts (:class:`TrainingStep`), several processes also run on
    CPUs, weights can be averaged, the evaluators follow from the dataset's metadata, and Ctrl-C or
    SIGTERM leave a checkpoint.
    """

    def __init__(self, cfg: CfgNode):
        # Not DefaultTrainer's own: it builds the data loader before it knows where to resume, and
        # asks for a GPU for each process and for mixed precision.
        super(DefaultTrainer, self).__init__()
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        self.cfg = cfg = scale_learning_rate(cfg)
        self._signals = StopSignals()
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        self._trainer = TrainingStep(
            wrap_for_processes(model),
            _Batches(self),
            optimizer,
            accumulation_steps=cfg.SOLVER.DEEPLAB2.ACCUMULATION_STEPS,
            amp_dtype=amp_dtype(cfg),
            clip_gradients=gradient_clipping(cfg),
            seed=cfg.SEED if cfg.SEED >= 0 else None,
            dump_dir=cfg.OUTPUT_DIR,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.average = build_average(cfg, model)
        checkpointables = {} if self.average is None else {"average": self.average}
        self.checkpointer = build_checkpointer(
            cfg, model, trainer=weakref.proxy(self), **checkpointables
        )
        if comm.is_main_process():
            killed = "removed %s, which a killed process had not written to its end"
            for path in remove_leftovers(cfg.OUTPUT_DIR):
                logger.warning(killed, path)
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    def build_hooks(self) -> List[Optional[HookBase]]:
        built = super().build_hooks()
        # Detectron2's hooks end with the writers, which are to see what ours have stored.
        reporting = reporting_hooks(self.cfg, self.checkpointer.model)
        progress = ToldProgress(self.checkpointer.model)
        writers = [hook for hook in built if isinstance(hook, hooks.PeriodicWriter)]
        built = [hook for hook in built if hook not in writers] + [progress, *reporting] + writers
        for hook in writers:
            hook._period = self.cfg.SOLVER.DEEPLAB2.LOG_PERIOD
        (place,) = [k for k, hook in enumerate(built) if isinstance(hook, hooks.EvalHook)]
        built[place]._func = self._unless_stopped(built[place]._func)
        if self.average is not None:
            built[place]._func = self.average.during(built[place]._func)
        self._best = build_keep_best(self.cfg, self.checkpointer)
        if self._best is not None:
            built[place]._func = self._best.watch(built[place]._func)
            built.insert(place + 1, self._best)
        built.insert(place, StopHook(self._signals))
        if self.average is None:
            return built
        # Right after the step, so that checkpoints and evaluations see the newest average.
        return [WeightAverageHook(self.average)] + built

    def build_writers(self) -> List[EventWriter]:
        return build_writers(self.cfg, self.max_iter)

    def _unless_stopped(self, evaluate: Callable[[], Any]) -> Callable[[], Any]:
        def evaluate_unless_stopped() -> Any:
            is_stopped = self._signals.requested is not None and comm.get_world_size() == 1
            return {} if is_stopped else evaluate()

        return evaluate_unless_stopped

    def resume_or_load(self, resume: bool = True) -> Any:
        """As :meth:`DefaultTrainer.resume_or_load`; warns of weights that are frozen and random."""
        super().resume_or_load(resume)
        weights = self.checkpointer.model.named_parameters()
        frozen = {name for name, parameter in weights if not parameter.requires_grad}
        stuck = [name for name in self.checkpointer.unloaded if name in frozen]
        if stuck:
            logger.warning(
                "config key MODEL.BACKBONE.FREEZE_AT %d keeps weights as they are that "
                "MODEL.WEIGHTS %r leave random, so that training has no effect on them: %s; "
                "0 lets them learn",
                self.cfg.MODEL.BACKBONE.FREEZE_AT,
                self.cfg.MODEL.WEIGHTS,
                summarize_names(stuck),
            )

    def train(self) -> Any:
        """
        Run the training; see :meth:`DefaultTrainer.train`.

        Raises:
            ConfigError: if another run is using OUTPUT_DIR.
            TrainingStopped: after SIGINT or SIGTERM, when the step in hand is done and saved.
        """
        with locked_output_dir(self.cfg.OUTPUT_DIR), self._signals:
            try:
                results = self._train()
            except KeyboardInterrupt:
                if self._signals.requested is None:
                    raise
                raise self._save_and_stop() from None
            except OSError as error:
                if error.filename is not None or error.errno is None:
                    raise
                # Of a log or a metric: whoever writes them knows a handle.
                what = f"{error.strerror}{self.checkpointer.describe_newest()}"
                raise OSError(error.errno, what, self.cfg.OUTPUT_DIR) from error
            if self._signals.requested is not None and comm.get_world_size() == 1:
                raise self._save_and_stop()
            return results

    def _train(self) -> Any:
        try:
            return super().train()
        except TrainingExhausted:
            assert self._best is not None
            self._best.end(self.checkpointer)
            results = getattr(self, "_last_eval_results", None)
            if results and self.cfg.TEST.EXPECTED_RESULTS:
                verify_results(self.cfg, results)
            return results

    def before_train(self) -> None:
        super().before_train()
        if self._best is not None and self._best.is_exhausted:
            # It has been resumed at its end.
            raise TrainingExhausted

    def after_step(self) -> None:
        super().after_step()
        # When every hook has ended its step.
        if self._best is not None and self._best.is_exhausted:
            raise TrainingExhausted

    def run_step(self) -> None:
        try:
            super().run_step()
        except RuntimeError as error:
            # The signal may have ended the data workers, too.
            if self._signals.requested is None or not self._trainer.is_fetching:
                raise
            self.iter -= 1  # Nothing of this step has happened.
            raise KeyboardInterrupt from error

    def _save_and_stop(self) -> TrainingStopped:
        """Save what the last whole step has left, unless it is there already."""
        self._trainer.end_data()
        done, path = min(self.iter, self.max_iter - 1), ""
        name = "model_final" if done + 1 >= self.max_iter else f"model_{done:07d}"
        if done >= self.start_iter:
            path = os.path.join(self.cfg.OUTPUT_DIR, f"{name}.pth")
            if comm.is_main_process() and self.checkpointer.newest_name() != f"{name}.pth":
                self.checkpointer.save(name, iteration=done)
        elif self.start_iter > 0:
            path = self.checkpointer.get_checkpoint_file()
        text = ""
        if comm.is_main_process():
            text = describe_stop(self._signals, done, self.max_iter, path)
        assert self._signals.requested is not None
        return TrainingStopped(text, 128 + self._signals.requested)

    def state_dict(self) -> Dict[str, Any]:
        state = super().state_dict()
        # Release 0.6 forgets the optimizer.
        state["_trainer"] = self._trainer.state_dict()
        return state

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        check_device(cfg)
        model = build_model(cfg)
        crf = crf_from_config(cfg)
        if isinstance(model, Segmenter):
            check_classes(cfg)
        elif crf is not None:
            refine_in_evaluation(model, crf)
        if cfg.SOLVER.DEEPLAB2.CHANNELS_LAST:
            model = model.to(memory_format=torch.channels_last)
        if cfg.SOLVER.DEEPLAB2.COMPILE:
            compile_network(model)
        count = sum(parameter.numel() for parameter in model.parameters())
        logger.info("%s with %.2f M parameters", type(model).__name__, count / 1e6)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(
        cls, cfg: CfgNode, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler:
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, start_iteration: int = 0) -> Any:
        return build_train_loader(cfg, start_iteration=start_iteration)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> Dict[str, Any]:
        """
        Evaluate on DATASETS.TEST; of videos sequence by sequence, the state handed on. See
        :func:`evaluators_at_work` for what evaluators and models do otherwise than in Detectron2.

        Args:
            cfg: TEST.DEEPLAB2.TRACKER tracks what a model of single images predicts.
            model, evaluators: see ``DefaultTrainer.test``.

        Raises:
            ConfigError: if the model has tracks already, or no panoptic output to track.
        """
        runner = SequenceRunner(add_tracker(cfg, model))
        if evaluators is None:
            try:
                evaluators = [cls.build_evaluator(cfg, name) for name in cfg.DATASETS.TEST]
            except NotImplementedError:
                return super().test(cfg, runner)  # which says that there is none
        several = [evaluators] if isinstance(evaluators, DatasetEvaluator) else evaluators
        with evaluators_at_work(several, runner) as working:
            return super().test(cfg, runner, working)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: Optional[str] = None
    ) -> DatasetEvaluators:
        return build_evaluators(cfg, dataset_name, output_folder)


class _Batches:
    """Build the train loader at the first step, when the iteration to start from is known."""

    def __init__(self, trainer: DeepLab2Trainer):
        self._trainer = weakref.proxy(trainer)

    def __iter__(self) -> Iterator[List[Dict[str, Any]]]:
        trainer = self._trainer
        yield from trainer.build_train_loader(trainer.cfg, start_iteration=trainer.start_iter)
