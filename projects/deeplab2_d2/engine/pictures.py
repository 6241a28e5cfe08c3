"""Predictions drawn beside the ground truth."""

import dataclasses
import itertools
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import HookBase
from detectron2.utils.events import get_event_storage

from ..data.mask_targets import thing_id_targets
from ..data.reading import read_image, read_panoptic_png
from ..data.segment_map import SegmentTable, build_segment_map
from ..data.targets import PanopticTargetGenerator
from ..meta_arch import PanopticSegmenter
from ..meta_arch.image_batch import ImageBatch, Size
from ..visualization import (
    draw_heatmap,
    draw_image,
    draw_offsets,
    draw_panoptic_overlay,
    draw_semantic,
    make_class_colors,
    sheet,
)
from .loaders import build_test_loader

Picture = np.ndarray


def has_panoptic_truth(dataset_name: str) -> bool:
    """Whether a registered dataset has panoptic annotations to draw."""
    metadata = MetadataCatalog.get(dataset_name)
    return hasattr(metadata, "panoptic_json") and bool(metadata.get("has_ground_truth", True))


class PredictionSheets:
    """
    Sheets of a dataset's first images: a row of the ground truth, and a row of the prediction.

    The ground truth's maps are the training targets at the image's own size.
    """

    titles: Tuple[str, ...] = (
        "image",
        "semantic",
        "panoptic",
        "center heatmap",
        "center offsets",
    )

    def __init__(self, cfg: CfgNode, dataset_name: str, num_images: int):
        """
        Args:
            cfg: the model's config.
            dataset_name: registered panoptic dataset.
            num_images: how many of its first images.
        """
        self._cfg = cfg
        self._dataset_name = dataset_name
        self._num_images = num_images
        self._metadata = MetadataCatalog.get(dataset_name)
        self._records = {r["file_name"]: r for r in DatasetCatalog.get(dataset_name)}
        self._colors = np.array(self._metadata.stuff_colors)
        self._thing_ids = set(self._metadata.thing_dataset_id_to_contiguous_id.values())
        self._generate = PanopticTargetGenerator(
            ignore_label=self._metadata.ignore_label, sigma=cfg.INPUT.DEEPLAB2.SIGMA
        )

    @torch.no_grad()
    def draw(self, model: PanopticSegmenter) -> Picture:
        """
        Returns:
            (H, W, 3) uint8 RGB. The model's mode is as before.
        """
        loader = build_test_loader(self._cfg, self._dataset_name)
        was_training = model.training
        model.eval()
        rows: List[List[Picture]] = []
        for (sample,) in itertools.islice(loader, self._num_images):
            image = read_image(sample["file_name"], "RGB")
            rows.append(self._truth_row(image, self._records[sample["file_name"]]))
            rows.append(self._prediction_row(model, image, sample))
        model.train(was_training)
        return sheet(rows, titles=self.titles, cell_size=(256, 384))

    def _truth_row(self, image: Picture, record: Mapping[str, Any]) -> List[Picture]:
        ids = read_panoptic_png(record["pan_seg_file_name"])
        segment_map, segments = build_segment_map(
            ids,
            record["segments_info"],
            num_classes=len(self._colors),
            thing_ids=self._thing_ids,
            label_divisor=self._metadata.label_divisor,
            source=record["pan_seg_file_name"],
        )
        return [
            draw_image(image),
            draw_semantic(self._generate(segment_map, segments).sem_seg, self._colors),
            draw_panoptic_overlay(image, (ids, record["segments_info"]), self._colors),
            *self._draw_targets(segment_map, segments),
        ]

    def _prediction_row(
        self, model: PanopticSegmenter, image: Picture, sample: Dict[str, Any]
    ) -> List[Picture]:
        images = model.batch([sample["image"]])
        prediction = model.predict(images.tensor)
        inference = dataclasses.replace(
            model.inference, has_semantic_output=True, has_panoptic_output=True
        )
        output = inference(prediction, images, [image.shape[:2]])[0]
        row = [draw_image(image), draw_semantic(output["sem_seg"].argmax(dim=0), self._colors)]
        if "panoptic_seg" in output:
            row.append(draw_panoptic_overlay(image, output["panoptic_seg"], self._colors))
            row += self._draw_raw(inference, prediction, images, image.shape[:2])
        return row

    def _draw_targets(self, segment_map: np.ndarray, segments: SegmentTable) -> List[Picture]:
        targets = self._generate(segment_map, segments)
        assert targets.center_heatmap is not None
        assert targets.center_offsets is not None and targets.offset_weights is not None
        return [
            draw_heatmap(targets.center_heatmap),
            draw_offsets(targets.center_offsets, mask=targets.offset_weights > 0),
        ]

    def _draw_raw(
        self, inference: Any, prediction: Any, images: ImageBatch, size: Size
    ) -> List[Picture]:
        """What the model predicts before post-processing, in the columns after the third."""
        # Only the part of the maps that the image covers.
        height, width = (
            -(-side * small // padded)
            for side, small, padded in zip(
                images.image_sizes[0],
                prediction.semantic_logits.shape[-2:],
                images.tensor.shape[-2:],
            )
        )
        return [
            draw_heatmap(prediction.center_heatmap[0, :, :height, :width]),
            draw_offsets(prediction.center_offsets[0, :, :height, :width]),
        ]


class MaskPredictionSheets(PredictionSheets):
    """The same for MaX-DeepLab: numbered things, and which slot has which pixel."""

    titles = ("image", "semantic", "panoptic", "slots")

    def _draw_targets(self, segment_map: np.ndarray, segments: SegmentTable) -> List[Picture]:
        numbers, _ = thing_id_targets(segment_map, segments, max_things=len(segments))
        return [draw_semantic(numbers, make_class_colors(len(segments)))]

    def _draw_raw(
        self, inference: Any, prediction: Any, images: ImageBatch, size: Size
    ) -> List[Picture]:
        result = inference.segment(prediction, images, 0, size)
        colors = make_class_colors(prediction.mask_logits.shape[1])
        return [draw_semantic(result.slot_map[0], colors)]


def build_sheets(cfg: CfgNode, dataset_name: str, num_images: int) -> PredictionSheets:
    """The sheets of the config's META_ARCHITECTURE."""
    is_mask_model = cfg.MODEL.META_ARCHITECTURE == "DeepLab2MaXDeepLab"
    sheets = MaskPredictionSheets if is_mask_model else PredictionSheets
    return sheets(cfg, dataset_name, num_images)


class PredictionPictures(HookBase):
    """Put a sheet of predictions into the event storage (so, TensorBoard) every so often."""

    def __init__(self, sheets: PredictionSheets, model: PanopticSegmenter, period: int):
        """
        Args:
            sheets: what is drawn.
            model: of this process.
            period: iterations between two sheets.
        """
        self.sheets = sheets
        self.model = model
        self.period = period

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % self.period == 0:
            picture = self.sheets.draw(self.model)
            get_event_storage().put_image("predictions", picture.transpose(2, 0, 1))
