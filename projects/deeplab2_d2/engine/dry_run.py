"""A training run once through, to find in seconds what would end it after hours."""

import contextlib
import itertools
import logging
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from typing import Any, Dict, Iterator, List, Tuple

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils.events import EventStorage
from tabulate import tabulate

from ..data.findings import KINDS
from ..data.inspection import inspect_dataset
from ..data.loader import load_dataset_dicts
from .best import check_metric
from .config_error import ConfigError
from .first_images import first_images
from .preflight import existing_folder
from .step_memory import StepMemory, megabytes, watch_step
from .trainer import DeepLab2Trainer

# Annotated images of each dataset of DATASETS.TEST that are read, spread evenly.
_INSPECTED = 20


def dry_run(cfg: CfgNode, *, resume: bool = False, num_processes: int = 1) -> Dict[str, Any]:
    """
    What a training does, once: data, weights, a step, memory, room for checkpoints, an evaluation.

    Nothing is written to OUTPUT_DIR.

    Args:
        cfg: checked, see :func:`check_run`.
        resume: from the last checkpoint of OUTPUT_DIR, if there is one.
        num_processes: of the training; this process takes the part of one.

    Returns:
        the scores of the evaluated images, flattened; they say nothing.

    Raises:
        ConfigError: naming key, rule and value, for what would end the training or its evaluation.
        OSError, ValueError: as the training would.
    """
    rows: List[Tuple[str, str]] = []
    with _quiet(), tempfile.TemporaryDirectory(prefix="dry_run_") as folder:
        rows += _inspect_data(cfg)
        own = _own_config(cfg, folder, num_processes)
        trainer = DeepLab2Trainer(own)
        rows.append(("weights", _load(trainer, cfg, resume)))
        memory, loss = _take_step(trainer)
        batch = f"{own.SOLVER.IMS_PER_BATCH} images"
        steps = own.SOLVER.DEEPLAB2.ACCUMULATION_STEPS
        rows.append(("step", f"{batch}{f' x {steps}' if steps > 1 else ''}, total loss {loss:.4g}"))
        rows += memory.rows()
        rows.append(("checkpoints", _check_room(cfg, trainer, memory)))
        scores = _evaluate(own, trainer, folder)
        heads = itertools.chain(["evaluation"], itertools.repeat(""))
        rows += zip(heads, _check_scores(cfg, scores))
    table = tabulate(rows, tablefmt="plain", disable_numparse=True, maxcolwidths=[None, 90])
    verdict = "the dry run found nothing that ends a training; OUTPUT_DIR is as it was"
    # What the command is for, not a log: in no file, and without times.
    sys.stdout.write(f"{table}\n{verdict}\n")
    return scores


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Of the logs, only errors: random weights score nothing, which is said there."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _own_config(cfg: CfgNode, folder: str, num_processes: int) -> CfgNode:
    batch = cfg.SOLVER.IMS_PER_BATCH
    if batch % num_processes:
        rule = f"a multiple of the {num_processes} processes"
        raise ConfigError(f"config key SOLVER.IMS_PER_BATCH must be {rule}, got {batch}")
    own = cfg.clone()
    own.defrost()
    own.OUTPUT_DIR = folder
    own.SOLVER.IMS_PER_BATCH = batch // num_processes
    own.freeze()
    return own


def _inspect_data(cfg: CfgNode) -> Iterator[Tuple[str, str]]:
    """Refuse files that are not there, of all images, and annotations that are broken, of some."""
    for split in ("TRAIN", "TEST"):
        for name in cfg.DATASETS[split]:
            dicts = load_dataset_dicts([name])
            for record in dicts:
                _check_files(name, record)
            text = f"{name}: {len(dicts)} images, all files there"
            metadata = MetadataCatalog.get(name)
            has_truth = metadata.get("has_ground_truth", True) and metadata.get("panoptic_json")
            if split == "TEST" and has_truth and metadata.get("stuff_classes"):
                text += _inspect_annotations(name, len(dicts))
            yield "data", text


def _check_files(name: str, record: Dict[str, Any]) -> None:
    for key, path in record.items():
        if not key.endswith("file_name") or not isinstance(path, str) or "://" in path:
            continue
        if not os.path.isfile(path):
            raise FileNotFoundError(f"dataset {name}: {key} {path} does not exist")


def _inspect_annotations(name: str, count: int) -> str:
    report = inspect_dataset(name, max_images=_INSPECTED)
    for finding in report.findings:
        if KINDS[finding.kind].is_error:
            detail = f" ({finding.detail})" if finding.detail else ""
            raise ValueError(
                f"dataset {name}: {KINDS[finding.kind].title}: {finding.source}{detail}; "
                f"python -m deeplab2_d2.data.check {name} tells of all"
            )
    return f", {min(count, _INSPECTED)} annotations read"


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


def _evaluate(own: CfgNode, trainer: DeepLab2Trainer, folder: str) -> Dict[str, Any]:
    """Scores of the first images, by names as of the training's evaluations."""
    if not own.DATASETS.TEST:
        return {}
    with ExitStack() as stack:
        names = {}
        for number, name in enumerate(own.DATASETS.TEST):
            part = os.path.join(folder, f"dataset{number}")
            os.makedirs(part)
            names[stack.enter_context(first_images(name, part))] = name
        few = own.clone()
        few.defrost()
        few.DATASETS.TEST = tuple(names)
        few.DATALOADER.NUM_WORKERS = 0
        few.freeze()
        results = trainer.test(few, trainer.checkpointer.model) or {}
        if len(names) > 1:
            results = {names[name]: scores for name, scores in results.items()}
        return flatten_results_dict(results)


def _check_scores(cfg: CfgNode, scores: Dict[str, Any]) -> Iterator[str]:
    metric = cfg.SOLVER.DEEPLAB2.BEST_METRIC
    refusal = check_metric(metric, scores) if metric else None
    if refusal is not None:
        raise ConfigError(refusal)
    for task, name, *_ in cfg.TEST.EXPECTED_RESULTS:
        if f"{task}/{name}" not in scores:
            raise ConfigError(
                "config key TEST.EXPECTED_RESULTS must be of metrics of the evaluation, got "
                f"{task!r}, {name!r}; it has {', '.join(sorted(scores)) or 'nothing'}"
            )
    if not cfg.DATASETS.TEST:
        yield "none: DATASETS.TEST is ()"
        return
    period = cfg.TEST.EVAL_PERIOD
    times = f"every {period} iterations and " if period > 0 else ""
    tasks: Dict[str, List[str]] = {}
    for name in scores:
        task, _, score = name.rpartition("/")
        tasks.setdefault(task, []).append(score)
    yield f"{times}at the end on {', '.join(cfg.DATASETS.TEST)}; of the first images:"
    for task, metrics in tasks.items():
        shown = ", ".join(metrics[:6]) + (", ..." if len(metrics) > 6 else "")
        yield f"{task}: {shown}"
