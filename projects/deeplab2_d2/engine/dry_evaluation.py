"""An evaluation once through, and what a training once through has of it."""

import argparse
import contextlib
import itertools
import logging
import os
import sys
import tempfile
from contextlib import ExitStack
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from tabulate import tabulate
from torch import nn

from ..data.findings import KINDS
from ..data.inspection import inspect_dataset
from ..data.loader import load_dataset_dicts
from .best import check_metric
from .config_error import ConfigError
from .first_images import first_images
from .testing import load_test_model
from .trainer import DeepLab2Trainer

# Annotated images of each dataset of DATASETS.TEST that are read, spread evenly.
_INSPECTED = 20

Rows = Sequence[Tuple[str, str]]
# Evaluates a model on the DATASETS.TEST of a config.
Test = Callable[[CfgNode, nn.Module], Any]


def dry_evaluation(
    cfg: CfgNode,
    *,
    resume: bool = False,
    ensemble: Sequence[str] = (),
    allow_random_weights: bool = False,
) -> Dict[str, Any]:
    """
    What an evaluation does, once: data, weights, an image of each dataset.

    Args:
        cfg, resume, ensemble, allow_random_weights: see :func:`deeplab2_d2.engine.evaluate`.

    Returns:
        the scores of the evaluated images, flattened; they say nothing.

    Raises:
        ConfigError: naming key, rule and value, for what would end the evaluation.
        OSError, ValueError: as the evaluation would.
    """

    def load(own: CfgNode) -> Tuple[nn.Module, Test]:
        allow = {"allow_random_weights": allow_random_weights}
        return load_test_model(cfg, resume=resume, ensemble=ensemble, **allow), DeepLab2Trainer.test

    return try_evaluation(cfg, load)


def try_evaluation(
    cfg: CfgNode, load: Callable[[CfgNode], Tuple[nn.Module, Test]]
) -> Dict[str, Any]:
    """
    :func:`dry_evaluation` of any model.

    Args:
        cfg: of the evaluation.
        load: from a config with another OUTPUT_DIR to the model, and what evaluates it.
    """
    with quiet(), tempfile.TemporaryDirectory(prefix="dry_run_") as folder:
        rows = list(inspect_data(cfg, "TEST"))
        own = own_config(cfg, folder)
        model, test = load(own)
        count = sum(parameter.numel() for parameter in model.parameters())
        rows.append(("weights", f"loaded, {count / 1e6:.2f} M parameters"))
        scores = evaluate_first_images(own, test, model, folder)
        rows += evaluation_rows(cfg, scores, "on")
    print_rows(rows, "nothing that ends an evaluation")
    return scores


def print_rows(rows: Rows, verdict: str) -> None:
    """What the command is for, not a log: in no file, and without times."""
    table = tabulate(rows, tablefmt="plain", disable_numparse=True, maxcolwidths=[None, 90])
    sys.stdout.write(f"{table}\nthe dry run found {verdict}; OUTPUT_DIR is as it was\n")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Of the logs, only errors: random weights score nothing, which is said there."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def count_processes(args: argparse.Namespace) -> int:
    """
    Of the run that a dry run is about, which itself has one.

    Raises:
        ConfigError: in one of several processes.
    """
    if comm.get_world_size() > 1:
        raise ConfigError(
            "--dry-run must be in one process (without torchrun); --num-gpus gives it the part of "
            "one of so many"
        )
    return max(args.num_gpus * args.num_machines, 1)


def own_config(cfg: CfgNode, folder: str, num_processes: int = 1) -> CfgNode:
    """With another OUTPUT_DIR, and the batch of one of so many processes."""
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


def inspect_data(cfg: CfgNode, *splits: str) -> Iterator[Tuple[str, str]]:
    """Refuse files that are not there, of all images, and annotations that are broken, of some."""
    for split in splits:
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


def evaluate_first_images(
    own: CfgNode, test: Test, model: nn.Module, folder: str
) -> Dict[str, Any]:
    """Scores of the first images, by names as of the whole evaluations."""
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
        results = test(few, model) or {}
        if len(names) > 1:
            results = {names[name]: scores for name, scores in results.items()}
        return flatten_results_dict(results)


def evaluation_rows(cfg: CfgNode, scores: Dict[str, Any], when: str) -> Rows:
    """What is scored, and where: ``when`` stands before the names of datasets."""
    heads = itertools.chain(["evaluation"], itertools.repeat(""))
    return list(zip(heads, _check_scores(cfg, scores, when)))


def _check_scores(cfg: CfgNode, scores: Dict[str, Any], when: str) -> Iterator[str]:
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
    tasks: Dict[str, List[str]] = {}
    for name in scores:
        task, _, score = name.rpartition("/")
        tasks.setdefault(task, []).append(score)
    yield f"{when} {', '.join(cfg.DATASETS.TEST)}; of the first images:"
    for task, metrics in tasks.items():
        shown = ", ".join(metrics[:6]) + (", ..." if len(metrics) > 6 else "")
        yield f"{task}: {shown}"
