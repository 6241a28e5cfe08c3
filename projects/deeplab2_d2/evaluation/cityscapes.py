"""Cityscapes' own scripts for semantic and instance scores, on today's NumPy."""

import importlib
import json
import os
from types import ModuleType
from typing import Any, Dict, Mapping, Optional, Sequence

import numpy as np
from detectron2.evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
from PIL import Image

from ..structures import atomic_path, semantic_labels_of, stem_of
from .label_readers import reads_labels

Scores = Dict[str, Dict[str, float]]


class CityscapesLabelWriter(CityscapesSemSegEvaluator):
    """``CityscapesSemSegEvaluator`` whose PNGs are made of labels, too."""

    @reads_labels
    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """
        Args:
            inputs: dicts with ``file_name``.
            outputs: dicts with ``sem_seg_labels``, (H, W) train ids, or ``sem_seg``, (19, H, W)
                scores.
        """
        ids = _ids_of_train_ids()
        for sample, output in zip(inputs, outputs):
            labels = semantic_labels_of(output).cpu().numpy()
            path = os.path.join(self._temp_dir, f"{stem_of(sample['file_name'])}_pred.png")
            Image.fromarray(ids[labels]).save(path)


class CityscapesSemanticEvaluator(CityscapesLabelWriter):
    """:class:`CityscapesLabelWriter` that also runs on NumPy 2.4, which has no ``in1d``."""

    def evaluate(self) -> Optional[Scores]:
        """
        Returns:
            ``{"sem_seg": {"IoU": ..., "iIoU": ..., "IoU_sup": ..., "iIoU_sup": ...}}`` in percent.
            None in all but the main process.
        """
        _mend("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
        return _as_floats(super().evaluate())


class CityscapesMaskEvaluator(CityscapesInstanceEvaluator):
    """``CityscapesInstanceEvaluator`` that also runs on NumPy 2.4, which has no ``in1d``."""

    def evaluate(self) -> Optional[Scores]:
        """
        Returns:
            ``{"segm": {"AP": ..., "AP50": ...}}`` in percent. None in all but the main process.
        """
        _mend("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
        return _as_floats(super().evaluate())


def _ids_of_train_ids() -> np.ndarray:
    """(256,) uint8: Cityscapes' label id of each train id, 255 where there is none."""
    from cityscapesscripts.helpers.labels import trainId2label

    ids = np.full(256, 255, np.uint8)
    for train_id, label in trainId2label.items():
        if not label.ignoreInEval:
            ids[train_id] = label.id
    return ids


def _as_floats(results: Optional[Scores]) -> Optional[Scores]:
    return results and {
        task: {metric: float(score) for metric, score in scores.items()}
        for task, scores in results.items()
    }


class _NumpyWithIn1d(ModuleType):
    """NumPy with the function that cityscapesScripts calls by its old name."""

    @staticmethod
    def in1d(values: Any, candidates: Sequence[Any], invert: bool = False) -> np.ndarray:
        return np.isin(values, candidates, invert=invert).ravel()

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _write_json(content: Any, file_name: str) -> None:
    """cityscapesScripts' ``writeDict2JSON``, for NumPy's numbers too."""
    if file_name == "matches.json":
        # For debugging: it would go to the working directory, whatever that is.
        return
    with atomic_path(file_name) as temporary, open(temporary, "w") as f:
        json.dump(content, f, default=lambda x: x.item() if hasattr(x, "item") else x.__dict__)


def _mend(module_name: str) -> None:
    # Only names of this one module are replaced; NumPy and the helpers stay as they are.
    module = importlib.import_module(module_name)
    if not hasattr(module.np, "in1d"):
        setattr(module, "np", _NumpyWithIn1d("numpy"))
    setattr(module, "writeDict2JSON", _write_json)
