"""A training run once through, to find in seconds what would end it after hours."""

import shutil
import tempfile
from typing import Any, Callable, Dict, List, Tuple

from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage

from .config_error import ConfigError
from .dry_evaluation import (
    evaluate_first_images,
    evaluation_rows,
    inspect_data,
    own_config,
    print_rows,
    quiet,
)
from .preflight import existing_folder
from .step_memory import StepMemory, megabytes, watch_step
from .trainer import DeepLab2Trainer


def dry_run(
    cfg: CfgNode,
    *,
    resume: bool = False,
    num_processes: int = 1,
    build_trainer: Callable[[CfgNode], DeepLab2Trainer] = DeepLab2Trainer,
) -> Dict[str, Any]:
    """
    What a training does, once: data, weights, a step, memory, room for checkpoints, an evaluation.

    Nothing is written to OUTPUT_DIR.

    Args:
        cfg: checked, see :func:`check_run`.
        resume: from the last checkpoint of OUTPUT_DIR, if there is one.
        num_processes: of the training; this process takes the part of one.
        build_trainer: of a config with another OUTPUT_DIR and the part's batch.

    Returns:
        the scores of the evaluated images, flattened; they say nothing.

    Raises:
        ConfigError: naming key, rule and value, for what would end the training or its evaluation.
        OSError, ValueError: as the training would.
    """
    rows: List[Tuple[str, str]] = []
    with quiet(), tempfile.TemporaryDirectory(prefix="dry_run_") as folder:
        rows += inspect_data(cfg, "TRAIN", "TEST")
        own = own_config(cfg, folder, num_processes)
        trainer = build_trainer(own)
        rows.append(("weights", _load(trainer, cfg, resume)))
        memory, loss = _take_step(trainer)
        batch = f"{own.SOLVER.IMS_PER_BATCH} images"
        steps = own.SOLVER.DEEPLAB2.ACCUMULATION_STEPS
        rows.append(("step", f"{batch}{f' x {steps}' if steps > 1 else ''}, total loss {loss:.4g}"))
        rows += memory.rows()
        rows.append(("checkpoints", _check_room(cfg, trainer, memory)))
        scores = evaluate_first_images(own, trainer.test, trainer.checkpointer.model, folder)
        period = cfg.TEST.EVAL_PERIOD
        when = f"every {period} iterations and at the end" if period > 0 else "at the end"
        rows += evaluation_rows(cfg, scores, f"{when} on")
    print_rows(rows, "nothing that ends a training")
    return scores


def _load(trainer: DeepLab2Trainer, cfg: CfgNode, resume: bool) -> str:
    checkpointer = trainer.checkpointer
    # Reads the run's checkpoint, and writes none.
    checkpointer.save_dir, folder = cfg.OUTPUT_DIR, checkpointer.save_dir
    has_own = resume and checkpointer.has_checkpoint()
    path = checkpointer.get_checkpoint_file() if has_own else cfg.MODEL.WEIGHTS
    trainer.resume_or_load(resume)
    checkpointer.save_dir = folder
    if trainer.start_iter >= trainer.max_iter:
        raise ConfigError(
            f"config key SOLVER.MAX_ITER must be above {trainer.start_iter}, the iterations of "
            f"{path}, got {trainer.max_iter}"
        )
    return f"{path or 'none, from scratch'}, goes on at iteration {trainer.start_iter}"


def _take_step(trainer: DeepLab2Trainer) -> Tuple[StepMemory, float]:
    step = trainer._trainer
    trainer.iter = trainer.start_iter
    with EventStorage(trainer.start_iter) as storage:
        try:
            memory = watch_step(step.model, step.optimizer, trainer.run_step)
        finally:
            step.end_data()
        loss = float(storage.latest()["total_loss"][0])
    return memory, loss


def _check_room(cfg: CfgNode, trainer: DeepLab2Trainer, memory: StepMemory) -> str:
    copies = 1 if trainer.average is None else 2
    size = copies * memory.weights + memory.optimizer
    solver = cfg.SOLVER
    count = (solver.MAX_ITER - trainer.start_iter) // max(solver.CHECKPOINT_PERIOD, 1) + 1
    count += bool(solver.DEEPLAB2.BEST_METRIC)
    folder = existing_folder(cfg.OUTPUT_DIR)
    text = f"{count} of {megabytes(size)}, {megabytes(count * size)} together"
    if folder is None:
        return text
    free = shutil.disk_usage(folder).free
    if count * size > free:
        raise ConfigError(
            f"config key SOLVER.CHECKPOINT_PERIOD must leave room for checkpoints in "
            f"{cfg.OUTPUT_DIR!r}, which has {megabytes(free)} free, got "
            f"{solver.CHECKPOINT_PERIOD}: {text}"
        )
    return f"{text}; {megabytes(free)} free in {folder}"
