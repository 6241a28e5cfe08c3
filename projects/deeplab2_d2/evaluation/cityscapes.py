"""Cityscapes' own scripts for semantic and instance scores, on today's NumPy."""

import importlib
import json
from types import ModuleType
from typing import Any, Dict, Optional, Sequence

import numpy as np
from detectron2.evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator

from ..structures import atomic_path

Scores = Dict[str, Dict[str, float]]


class CityscapesSemanticEvaluator(CityscapesSemSegEvaluator):
    """``CityscapesSemSegEvaluator`` that also runs on NumPy 2.4, which has no ``in1d``."""

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
