"""What a panoptic dataset scores without a network: the trivial predictor and the stride oracle."""

from typing import Dict

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..evaluation import ConstantPredictor, PanopticQualityEvaluator
from ..records import Predictor, find_record
from ..structures import DatasetClasses


def score_baselines(cfg: CfgNode, dataset_name: str) -> Dict[str, Dict[str, float]]:
    """
    Panoptic quality of the trivial predictor and, if the model has one, of its stride oracle.

    Args:
        cfg: META_ARCHITECTURE decides on the oracle.
        dataset_name: registered panoptic dataset.

    Returns:
        ``{"trivial": {"PQ": ..., ...}, "oracle": {...}}``, in percent; without "trivial" where the
        dataset shows no stuff. Runs in one process.
    """
    records = DatasetCatalog.get(dataset_name)
    classes = DatasetClasses.from_metadata(MetadataCatalog.get(dataset_name))
    predictors: Dict[str, Predictor] = {}
    if any(not classes.is_thing(s["category_id"]) for r in records for s in r["segments_info"]):
        predictors["trivial"] = ConstantPredictor.for_dataset(records, thing_ids=classes.thing_ids)
    model = find_record(cfg)
    if model is not None and model.build_oracle is not None:
        predictors["oracle"] = model.build_oracle(cfg, dataset_name)
    scores = {}
    evaluator = PanopticQualityEvaluator(dataset_name)
    for name, predictor in predictors.items():
        evaluator.reset()
        for record in records:
            evaluator.process([record], predictor([record]))
        results = evaluator.evaluate()
        assert results is not None
        scores[name] = results["panoptic_seg"]
    return scores
