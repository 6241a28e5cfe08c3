"""Train and evaluate what a LazyConfig describes, by the trainer of YAML configs."""

import argparse
import logging
import os
from typing import Any, Dict, Optional, Sequence

import torch
from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset, print_csv_format
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from omegaconf import DictConfig, ListConfig, OmegaConf, errors
from torch import nn

from ..checkpoint import summarize_names
from ..data.user_code import register_user_modules
from ..video import SequenceRunner
from .checkpointing import build_checkpointer
from .config_error import ConfigError
from .dry_evaluation import count_processes, try_evaluation
from .dry_run import dry_run
from .evaluation_run import evaluators_at_work
from .logs import start_logs
from .preflight import check_device, check_output_folder
from .run_lock import lock_output_dir
from .setup import load_config
from .trainer import DeepLab2Trainer
from .training_parts import build_average

logger = logging.getLogger(__name__)

# Of Detectron2's tools/lazyconfig_train_net.py.
_NEEDED = ("model", "optimizer", "lr_multiplier", "dataloader", "train")


def run_lazy(args: argparse.Namespace) -> Optional[Dict[str, Any]]:
    """
    Train, or only evaluate, what a Python config describes.

    Args:
        args: from :func:`deeplab2_d2.engine.argument_parser`; ``config_file`` is a LazyConfig,
            ``opts`` are Detectron2's overrides, ``train.max_iter=100``.

    Returns:
        The evaluators' results (of the last evaluation); None if there was none.

    Raises:
        ConfigError: for a file that is no LazyConfig of a training, and flags of YAML configs.
    """
    if args.ensemble:
        raise ConfigError("--ensemble needs a YAML config")
    register_user_modules(args.register)
    lazy = load_lazy_config(args.config_file, args.opts)
    cfg = config_of(lazy)
    check_device(cfg)
    check_output_folder(cfg.OUTPUT_DIR)
    if args.dry_run:
        return _run_dry(args, lazy, cfg)
    lock_output_dir(cfg.OUTPUT_DIR)
    start_logs(cfg, args)
    if comm.is_main_process():
        LazyConfig.save(lazy, os.path.join(cfg.OUTPUT_DIR, "config.yaml"))
    trainer = LazyTrainer(lazy, cfg)
    if args.eval_only:
        return trainer.evaluate(args.resume, allow_random_weights=args.allow_random_weights)
    trainer.resume_or_load(args.resume)
    trainer.train()
    return getattr(trainer, "_last_eval_results", None)


def _run_dry(args: argparse.Namespace, lazy: DictConfig, cfg: CfgNode) -> Dict[str, Any]:
    """Errors name keys as YAML configs do."""
    count = count_processes(args)

    def build(own: CfgNode) -> LazyTrainer:
        if "total_batch_size" in lazy.dataloader.train:
            lazy.dataloader.train.total_batch_size = own.SOLVER.IMS_PER_BATCH
        return LazyTrainer(lazy, own)

    def load(own: CfgNode) -> Any:
        trainer = build(own)
        trainer.load_for_evaluation(
            args.resume, cfg.OUTPUT_DIR, allow_random_weights=args.allow_random_weights
        )
        return trainer.checkpointer.model.eval(), trainer.test

    if args.eval_only:
        return try_evaluation(cfg, load)
    return dry_run(cfg, resume=args.resume, num_processes=count, build_trainer=build)


def load_lazy_config(path: str, overrides: "list[str] | None" = None) -> DictConfig:
    """
    Run a config, and change what the overrides say.

    Args:
        path: a Python file. It is code: run none that you would not run.
        overrides: ``key=value``, as Detectron2 takes them.

    Raises:
        ConfigError: naming the file or the override.
    """
    try:
        lazy = LazyConfig.load(path)
    except (AttributeError, ImportError, KeyError, SyntaxError, errors.OmegaConfBaseException) as e:
        raise ConfigError(f"config file {path}: {type(e).__name__}: {e}") from e
    missing = [key for key in _NEEDED if key not in lazy]
    if missing:
        raise ConfigError(
            f"config file {path} must define {', '.join(_NEEDED)} to be a LazyConfig, got no "
            f"{', '.join(missing)}"
        )
    for override in overrides or []:
        try:
            _check_key(lazy, override)
            LazyConfig.apply_overrides(lazy, [override])
        except Exception as error:  # Whatever the parser of Hydra, or OmegaConf, thinks of it.
            what = error.args[0] if error.args else type(error).__name__
            raise ConfigError(f"config override {override}: {what}") from error
    return lazy


def _check_key(lazy: DictConfig, override: str) -> None:
    """Detectron2 adds a key that is misspelt, which would have no effect."""
    key = override.partition("=")[0]
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(lazy, parent) if parent else lazy
    if key[:1] not in ("+", "~") and not (isinstance(node, ListConfig) or name in (node or ())):
        known = ", ".join(str(k) for k in node or ())
        raise KeyError(f"no such key, there are {known}; a + before it adds it")


def config_of(lazy: DictConfig) -> CfgNode:
    """
    What the trainer reads of a config, from ``train`` and ``dataloader``; all else is a default.

    ``train.deeplab2`` may have the keys of SOLVER.DEEPLAB2 that are not of the optimizer, in small
    letters: ``ema_decay``, ``best_metric``, ``patience``, ``accumulation_steps``, ...
    """
    train, loader = lazy.train, lazy.dataloader.train
    cfg = load_config()
    given: Dict[str, Any] = {
        "OUTPUT_DIR": train.output_dir,
        "SEED": train.get("seed", -1),
        "MODEL.DEVICE": train.device,
        "MODEL.WEIGHTS": train.init_checkpoint,
        "SOLVER.MAX_ITER": train.max_iter,
        "SOLVER.CHECKPOINT_PERIOD": train.checkpointer.period,
        "SOLVER.IMS_PER_BATCH": loader.get("total_batch_size", cfg.SOLVER.IMS_PER_BATCH),
        "SOLVER.AMP.ENABLED": train.amp.enabled,
        "SOLVER.DEEPLAB2.LOG_PERIOD": train.log_period,
        "TEST.EVAL_PERIOD": train.eval_period,
        "DATASETS.TRAIN": _names(loader.get("dataset")),
        "DATASETS.TEST": _names(lazy.dataloader.test.get("dataset")),
    }
    for key, value in train.get("deeplab2", {}).items():
        given[f"SOLVER.DEEPLAB2.{key.upper()}"] = value
    overrides = [item for pair in given.items() for item in pair]
    cfg = load_config("", overrides)
    cfg.freeze()
    return cfg


def _names(dataset: Any) -> Any:
    """What DATASETS takes of one name, or several, or none."""
    if dataset is None or isinstance(dataset, str):
        return (dataset,) if dataset else ()
    return tuple(str(name) for name in dataset)


class LazyTrainer(DeepLab2Trainer):
    """
    :class:`DeepLab2Trainer` whose model, optimizer, schedule, loaders and evaluators are a
    LazyConfig's: signals, exact resumption, averages, the best checkpoint and logs are the same.
    """

    def __init__(self, lazy: DictConfig, cfg: CfgNode):
        """
        Args:
            lazy: see :func:`load_lazy_config`.
            cfg: of :func:`config_of`.
        """
        self._lazy = lazy
        super().__init__(cfg)

    def build_model(self, cfg: CfgNode) -> nn.Module:  # type: ignore[override]
        model = instantiate(self._lazy.model)
        count = sum(parameter.numel() for parameter in model.parameters())
        logger.info("%s with %.2f M parameters", type(model).__name__, count / 1e6)
        return model.to(cfg.MODEL.DEVICE)

    def build_optimizer(  # type: ignore[override]
        self, cfg: CfgNode, model: nn.Module
    ) -> torch.optim.Optimizer:
        self._lazy.optimizer.params.model = model
        return instantiate(self._lazy.optimizer)

    def build_lr_scheduler(  # type: ignore[override]
        self, cfg: CfgNode, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler:
        return LRMultiplier(optimizer, instantiate(self._lazy.lr_multiplier), cfg.SOLVER.MAX_ITER)

    def build_train_loader(  # type: ignore[override]
        self, cfg: CfgNode, start_iteration: int = 0
    ) -> Any:
        node = self._lazy.dataloader.train
        if start_iteration and "dataset" in node:
            # Ours takes it; another's begins anew, as in Detectron2.
            node.start_iteration = start_iteration * cfg.SOLVER.DEEPLAB2.ACCUMULATION_STEPS
        return instantiate(node)

    def test(  # type: ignore[override]
        self, cfg: CfgNode, model: nn.Module, evaluators: Any = None
    ) -> Dict[str, Any]:
        """
        Evaluate on ``dataloader.test``; of videos sequence by sequence, the state handed on.

        Args:
            cfg: where its DATASETS.TEST are others than the trainer's, these are taken instead.
            model, evaluators: as in Detectron2.
        """
        node = self._lazy.dataloader
        if "evaluator" not in node:
            return {}
        names = dict(zip(self.cfg.DATASETS.TEST, cfg.DATASETS.TEST))
        test, built = _with_names(node.test, names), _with_names(node.evaluator, names)
        evaluator = evaluators or instantiate(built)
        several = list(evaluator) if isinstance(evaluator, Sequence) else [evaluator]
        runner = SequenceRunner(model)
        with evaluators_at_work([DatasetEvaluators(several)], runner) as working:
            images = instantiate(test)
            results = inference_on_dataset(runner, images, working)
        print_csv_format(results or {})
        return results or {}

    def evaluate(self, resume: bool, *, allow_random_weights: bool = False) -> Dict[str, Any]:
        """
        Evaluate ``train.init_checkpoint``, or the last one of the run.

        Args:
            resume, allow_random_weights: see :meth:`load_for_evaluation`.
        """
        folder = self.cfg.OUTPUT_DIR
        self.load_for_evaluation(resume, folder, allow_random_weights=allow_random_weights)
        return self.test(self.cfg, self.checkpointer.model.eval())

    def load_for_evaluation(
        self, resume: bool, folder: str, *, allow_random_weights: bool = False
    ) -> None:
        """
        Args:
            resume: the last checkpoint of the folder, if there is one, comes first.
            folder: of the run.
            allow_random_weights: let what the weights lack be random.

        Raises:
            ConfigError: if a weight of the model would be random, or there is no average.
        """
        model = self.checkpointer.model
        checkpointer = build_checkpointer(self.cfg, model)
        checkpointer.save_dir = folder
        has_own = resume and checkpointer.has_checkpoint()
        path = checkpointer.get_checkpoint_file() if has_own else self.cfg.MODEL.WEIGHTS
        rest = checkpointer.load(path, checkpointables=[])
        if checkpointer.unloaded and not allow_random_weights:
            parts = summarize_names(checkpointer.unloaded)
            raise ConfigError(
                f"config key train.init_checkpoint must be a trained model's, got {path!r}, which "
                f"leaves random {parts}; --allow-random-weights uses it anyway"
            )
        average = build_average(self.cfg, model)
        if average is not None:
            if "average" not in rest:
                raise ConfigError(
                    "config key train.deeplab2.ema_decay must be 0 to evaluate "
                    f"{path!r}: it has no averaged weights"
                )
            average.load_state_dict(rest["average"])
            model.load_state_dict(average.state_dict())


def _with_names(node: Any, names: Dict[str, str]) -> Any:
    """A part of a config, resolved, with other names of datasets."""

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [renamed(item) for item in value]
        return names.get(value, value) if isinstance(value, str) else value

    if all(name == other for name, other in names.items()):
        return node
    return OmegaConf.create(
        renamed(OmegaConf.to_container(node, resolve=True)), flags={"allow_objects": True}
    )
