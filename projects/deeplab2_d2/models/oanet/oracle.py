"""The bound of masks in boxes and stuff at a stride: ground truth through the two branches."""

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.layers import paste_masks_in_image
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import BitMasks, Instances
from torch import Tensor

from ...data.segment_map import SegmentTable, read_segments
from ...structures import DatasetClasses
from .merging import merge_instances_and_stuff

Size = Tuple[int, int]


class BranchOracle:
    """
    The things of the panoptic truth as boxes with the mask head's grids, its stuff at the stuff
    branch's stride in the network's input, merged as a model's outputs are.

    Things are those that the panoptic map shows, so no order has to be known; where two grids both
    claim a pixel of an edge, the smaller thing is on top.
    """

    def __init__(
        self,
        classes: DatasetClasses,
        *,
        grid: int,
        stride: int,
        short_edge: int,
        long_edge: int,
        **merging: Any,
    ):
        """
        Args:
            classes: of the dataset.
            grid: side of the mask head's output.
            stride: of the stuff branch, in pixels of the network's input.
            short_edge, long_edge: of that input, as Detectron2's ``ResizeShortestEdge`` has them;
                a short edge of 0 leaves the image as it is.
            merging: thresholds of :func:`merge_instances_and_stuff`.
        """
        self.classes, self.grid, self.stride = classes, grid, stride
        self._edges, self._merging = (short_edge, long_edge), merging

    @classmethod
    def from_config(cls, cfg: CfgNode, dataset_name: str) -> "BranchOracle":
        """
        Args:
            cfg: MODEL, and INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST.
            dataset_name: registered panoptic dataset.
        """
        combine = cfg.MODEL.PANOPTIC_FPN.COMBINE
        return cls(
            DatasetClasses.from_metadata(MetadataCatalog.get(dataset_name)),
            grid=2 * cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION,
            stride=cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE,
            short_edge=cfg.INPUT.MIN_SIZE_TEST,
            long_edge=cfg.INPUT.MAX_SIZE_TEST,
            overlap_threshold=combine.OVERLAP_THRESH,
            stuff_area_limit=combine.STUFF_AREA_LIMIT,
            is_stuff_connected=cfg.MODEL.DEEPLAB2.OANET.CONNECTED_STUFF,
        )

    def __call__(self, inputs: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
        """
        Args:
            inputs: dataset dicts with ``height``, ``width`` and the panoptic annotation.

        Returns:
            For each ``panoptic_seg``, as of :func:`merge_instances_and_stuff`.
        """
        return [{"panoptic_seg": self._predict(record)} for record in inputs]

    def _predict(self, record: Mapping[str, Any]) -> Any:
        segment_map, segments = read_segments(
            record,
            (record["height"], record["width"]),
            num_classes=self.classes.num_classes,
            thing_ids=set(self.classes.thing_ids),
            label_divisor=self.classes.label_divisor,
        )
        instances = self._instances(segment_map, segments)
        return merge_instances_and_stuff(
            instances,
            self._stuff_map(segment_map, segments),
            stuff_ids=self.classes.stuff_ids,
            # The smaller on top.
            rank_scores=-instances.pred_masks.sum(dim=(1, 2)).float(),
            **self._merging,
        )

    def _instances(self, segment_map: np.ndarray, segments: SegmentTable) -> Instances:
        size = (int(segment_map.shape[0]), int(segment_map.shape[1]))
        things = np.flatnonzero(segments.is_instance)
        masks = BitMasks(torch.from_numpy(segment_map == 1 + things[:, None, None]))
        boxes = masks.get_bounding_boxes().tensor
        instances = Instances(size)
        instances.pred_masks = masks.tensor
        if len(things):
            grids = masks.crop_and_resize(boxes, self.grid).float()
            instances.pred_masks = paste_masks_in_image(grids, boxes, size)
        instances.pred_classes = torch.from_numpy(segments.category_ids[things])
        instances.scores = torch.ones(len(things))
        return instances

    def _stuff_map(self, segment_map: np.ndarray, segments: SegmentTable) -> Tensor:
        """(H, W) int64 contiguous classes, -1 where there is no stuff."""
        size = (int(segment_map.shape[0]), int(segment_map.shape[1]))
        height, width = self._input_size(size)
        stuff = torch.from_numpy(np.unique(segments.category_ids[~segments.is_thing]))
        table = segments.look_up(np.where(segments.is_thing, -1, segments.category_ids), -1)
        classes = torch.from_numpy(table[segment_map])[None, None].float()
        truth = F.interpolate(classes, (height, width), mode="nearest-exact")
        padding = (0, -width % self.stride, 0, -height % self.stride)
        half = self.stride // 2
        cells = F.pad(truth, padding, value=-1)[0, 0, half :: self.stride, half :: self.stride]
        labels = torch.cat([stuff.new_tensor([-1]), stuff])
        probability = (cells == labels[:, None, None]).float()[None]
        probability = F.interpolate(
            probability, scale_factor=self.stride, mode="bilinear", align_corners=False
        )
        return labels[sem_seg_postprocess(probability[0], (height, width), *size).argmax(dim=0)]

    def _input_size(self, size: Size) -> Size:
        short, long = self._edges
        if short == 0:
            return size
        height, width = ResizeShortestEdge.get_output_shape(*size, short, long)
        return height, width
