"""What a panoptic dataset scores without a network: the trivial predictor and the stride oracle."""

from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import Tensor

from ..data.reading import read_panoptic_png
from ..data.segment_map import SegmentTable, build_segment_map
from ..data.targets import PanopticTargetGenerator
from ..evaluation import ConstantPredictor, PanopticQualityEvaluator
from ..meta_arch.max_deeplab_inference import postprocessing_from_config
from ..postprocessing import panoptic_from_mask_slots, postprocess_panoptic
from ..structures import PanopticDeepLabPrediction

Size = Tuple[int, int]
Predictor = Callable[[Sequence[Mapping[str, Any]]], List[Dict[str, Any]]]

_IGNORE_LABEL = -1
# Large against the weight 1 / stride that a neighbor has half way between two pixels.
_LOGIT = 10.0


class StrideOracle:
    """
    Ground truth seen through the network's output stride: the bound of this representation.

    The annotation is sampled at every ``stride``-th pixel, made into targets (classes, center
    heatmap, offsets) there, and post-processed as a model's outputs are: upsampling, keypoint
    suppression, grouping. What is lost is what Panoptic-DeepLab loses with a perfect network.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        thing_ids: Sequence[int],
        label_divisor: int,
        stride: int = 4,
        sigma: float = 8.0,
        **postprocessing: Any,
    ):
        """
        Args:
            num_classes: number of contiguous classes.
            thing_ids: contiguous ids of the classes that have instances.
            label_divisor: panoptic label = class * label_divisor + instance number.
            stride: of the heads' maps, in pixels of the image.
            sigma: standard deviation of the heatmap's Gaussians, in pixels of the image.
            postprocessing: further arguments of :func:`postprocess_panoptic`.
        """
        self._num_classes = num_classes
        self._thing_ids = list(thing_ids)
        self._label_divisor = label_divisor
        self._stride = stride
        self._postprocessing = postprocessing
        self._make_targets = PanopticTargetGenerator(
            ignore_label=_IGNORE_LABEL,
            # Whole: DeepLab2's window has a single peak only then.
            sigma=max(1, round(sigma / stride)),
            ignore_crowd_in_semantic=False,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, dataset_name: str) -> "StrideOracle":
        """
        The oracle with the post-processing of a config.

        Args:
            cfg: MODEL.DEEPLAB2.POSTPROCESSING and INPUT.DEEPLAB2.SIGMA.
            dataset_name: registered panoptic dataset.
        """
        metadata = MetadataCatalog.get(dataset_name)
        node = cfg.MODEL.DEEPLAB2.POSTPROCESSING
        return cls(
            num_classes=len(metadata.stuff_classes),
            thing_ids=sorted(set(metadata.thing_dataset_id_to_contiguous_id.values())),
            label_divisor=metadata.label_divisor,
            sigma=cfg.INPUT.DEEPLAB2.SIGMA,
            stuff_area_limit=node.STUFF_AREA_LIMIT,
            center_threshold=node.CENTER_THRESHOLD,
            nms_kernel=node.NMS_KERNEL,
            top_k_centers=node.TOP_K_CENTERS,
        )

    def __call__(self, inputs: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
        """
        Args:
            inputs: Detectron2 dataset dicts with ``pan_seg_file_name`` and ``segments_info``.

        Returns:
            For each ``panoptic_seg``: the (H, W) int32 panoptic map (-1 is void), and None.
        """
        return [{"panoptic_seg": (self._predict(record), None)} for record in inputs]

    def _predict(self, record: Mapping[str, Any]) -> Tensor:
        ids = read_panoptic_png(record["pan_seg_file_name"])
        segment_map, segments = build_segment_map(
            ids,
            record["segments_info"],
            num_classes=self._num_classes,
            thing_ids=set(self._thing_ids),
            label_divisor=self._label_divisor,
            source=record["pan_seg_file_name"],
        )
        # Up to 1 + a multiple of the stride, as a network pads.
        height, width = (1 + -(-(side - 1) // self._stride) * self._stride for side in ids.shape)
        padding = (0, height - ids.shape[0]), (0, width - ids.shape[1])
        small_map = np.pad(segment_map, padding)[:: self._stride, :: self._stride]
        return self._segment(small_map, segments, (height, width), ids.shape)

    def _segment(
        self, small_map: np.ndarray, segments: SegmentTable, input_size: Size, image_size: Size
    ) -> Tensor:
        """(H, W) panoptic map of the image, from the segment map at the heads' resolution."""
        targets = self._make_targets(small_map, segments)
        assert targets.center_heatmap is not None and targets.center_offsets is not None
        classes = np.arange(self._num_classes)[:, None, None]
        segmentation = postprocess_panoptic(
            PanopticDeepLabPrediction(
                _batch(_LOGIT * (targets.sem_seg == classes)),
                _batch(targets.center_heatmap[None]),
                _batch(targets.center_offsets),
            ),
            input_size=input_size,
            image_size=image_size,
            output_size=image_size,
            thing_ids=self._thing_ids,
            label_divisor=self._label_divisor,
            with_probability=False,
            **self._postprocessing,
        )
        return segmentation.panoptic_map[0]


class MaskStrideOracle(StrideOracle):
    """The same for MaX-DeepLab: every segment has a slot, its mask at each ``stride``-th pixel."""

    @classmethod
    def from_config(cls, cfg: CfgNode, dataset_name: str) -> "MaskStrideOracle":
        """
        Args:
            cfg: MODEL.DEEPLAB2.POSTPROCESSING.
            dataset_name: registered panoptic dataset.
        """
        metadata = MetadataCatalog.get(dataset_name)
        return cls(
            num_classes=len(metadata.stuff_classes),
            thing_ids=sorted(set(metadata.thing_dataset_id_to_contiguous_id.values())),
            label_divisor=metadata.label_divisor,
            options=postprocessing_from_config(cfg),
        )

    def _segment(
        self, small_map: np.ndarray, segments: SegmentTable, input_size: Size, image_size: Size
    ) -> Tensor:
        # The first slot has what is not labeled; its class is void.
        slots = np.arange(len(segments) + 1)
        classes = np.concatenate([[self._num_classes], segments.category_ids])
        result = panoptic_from_mask_slots(
            _batch(_LOGIT * (small_map == slots[:, None, None])),
            _batch(_LOGIT * (classes[:, None] == np.arange(self._num_classes + 1))),
            thing_ids=self._thing_ids,
            label_divisor=self._label_divisor,
            input_size=input_size,
            image_size=image_size,
            output_size=image_size,
            channel_to_class=range(self._num_classes),
            **self._postprocessing,
        )
        return result.panoptic_map[0]


def _batch(maps: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(maps[None], dtype=np.float32))


def score_baselines(cfg: CfgNode, dataset_name: str) -> Dict[str, Dict[str, float]]:
    """
    Panoptic quality of the trivial predictor and of the stride oracle on a dataset.

    Args:
        cfg: see :meth:`StrideOracle.from_config`; META_ARCHITECTURE decides on the oracle.
        dataset_name: registered panoptic dataset.

    Returns:
        ``{"trivial": {"PQ": ..., ...}, "oracle": {...}}``, in percent. Runs in one process.
    """
    records = DatasetCatalog.get(dataset_name)
    metadata = MetadataCatalog.get(dataset_name)
    thing_ids = set(metadata.thing_dataset_id_to_contiguous_id.values())
    is_mask_model = cfg.MODEL.META_ARCHITECTURE == "DeepLab2MaXDeepLab"
    oracle = MaskStrideOracle if is_mask_model else StrideOracle
    predictors: Dict[str, Predictor] = {
        "trivial": ConstantPredictor.for_dataset(records, thing_ids=thing_ids),
        "oracle": oracle.from_config(cfg, dataset_name),
    }
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
