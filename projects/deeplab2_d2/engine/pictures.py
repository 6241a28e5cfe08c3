"""Predictions drawn beside the ground truth."""

import itertools
from typing import Any, Dict, List, Mapping, Optional

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import HookBase
from detectron2.utils.events import get_event_storage
from torch import nn

from ..data.reading import read_image
from ..data.segment_map import build_segment_map
from ..models import Segmenter, with_labels
from ..records import Pictures, find_record
from ..structures import DatasetClasses, has_semantic, read_panoptic_png, semantic_labels_of
from ..visualization import (
    Entry,
    class_legend,
    draw_image,
    draw_panoptic_overlay,
    draw_semantic,
    sheet,
)
from ..visualization.colors import VOID_COLOR
from ..visualization.pictures import Array, to_numpy
from .loaders import build_test_loader

Picture = np.ndarray


def has_panoptic_truth(dataset_name: str) -> bool:
    """Whether a registered dataset has panoptic annotations to draw."""
    metadata = MetadataCatalog.get(dataset_name)
    return hasattr(metadata, "panoptic_json") and bool(metadata.get("has_ground_truth", True))


class PredictionSheets:
    """
    Sheets of a dataset's first images: a row of the ground truth, and a row of the prediction.

    Columns are the image, its classes, its segments, and what the model's record adds. Below stands
    what the colors of the classes mean, of those that are in the sheet.
    """

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
        self._classes = DatasetClasses.from_metadata(self._metadata)
        # Class ids in the sheet that is being drawn.
        self._shown = np.zeros(0, np.int64)
        record = find_record(cfg)
        self._more: Optional[Pictures] = None
        if record is not None and record.build_pictures is not None:
            self._more = record.build_pictures(cfg)
        self.titles = ("image", "semantic", "panoptic", *(self._more.titles if self._more else ()))

    @torch.no_grad()
    def draw(self, model: nn.Module) -> Picture:
        """
        Returns:
            (H, W, 3) uint8 RGB. The model's mode is as before.
        """
        loader = build_test_loader(self._cfg, self._dataset_name)
        was_training = model.training
        model.eval()
        rows: List[List[Picture]] = []
        self._shown = np.zeros(0, np.int64)
        for (sample,) in itertools.islice(loader, self._num_images):
            image = read_image(sample["file_name"], "RGB")
            rows.append(self._truth_row(image, self._records[sample["file_name"]]))
            rows.append(self._prediction_row(model, image, sample))
        model.train(was_training)
        return sheet(
            rows,
            titles=self.titles,
            row_titles=["truth", "prediction"] * (len(rows) // 2),
            legend=self._legend(),
            cell_size=(256, 384),
        )

    def _legend(self) -> List[Entry]:
        entries = class_legend(self._classes.names, self._colors, self._shown)
        is_class = (self._shown >= 0) & (self._shown < len(self._colors))
        return entries if is_class.all() else [*entries, ("void", VOID_COLOR)]

    def _draw_classes(self, semantic: Array) -> Picture:
        """Draw (H, W) class ids, and keep which there are for the legend."""
        self._shown = np.union1d(self._shown, to_numpy(semantic))
        return draw_semantic(semantic, self._colors)

    def _truth_row(self, image: Picture, record: Mapping[str, Any]) -> List[Picture]:
        ids = read_panoptic_png(record["pan_seg_file_name"])
        segment_map, segments = build_segment_map(
            ids,
            record["segments_info"],
            num_classes=len(self._colors),
            thing_ids=set(self._classes.thing_ids),
            label_divisor=self._classes.label_divisor,
            source=record["pan_seg_file_name"],
        )
        ignore_label = self._classes.ignore_label
        classes = np.where(segments.is_crowd, ignore_label, segments.category_ids)
        semantic = segments.look_up(classes.astype(np.int64), ignore_label)[segment_map]
        return [
            draw_image(image),
            self._draw_classes(semantic),
            draw_panoptic_overlay(image, (ids, record["segments_info"]), self._colors),
            *(self._more.draw_targets(segment_map, segments) if self._more else ()),
        ]

    def _prediction_row(
        self, model: nn.Module, image: Picture, sample: Dict[str, Any]
    ) -> List[Picture]:
        sample = {**sample, "height": image.shape[0], "width": image.shape[1]}
        if not isinstance(model, Segmenter):
            # A meta architecture of Detectron2's kind: no raw maps to draw.
            return self._output_row(image, model([sample])[0])
        images = model.batch([sample])
        prediction = model.predict(images.tensor)
        inference = model.inference.with_outputs("sem_seg", "panoptic_seg")
        if model.crf is None:
            inference = with_labels(inference)
        (output,) = model.refine(inference(prediction, images, [sample]), [sample])
        row = self._output_row(image, output)
        if "panoptic_seg" in output and self._more is not None:
            row += self._more.draw_prediction(model, prediction, images, sample)
        return row

    def _output_row(self, image: Picture, output: Mapping[str, Any]) -> List[Picture]:
        empty = np.zeros_like(image)
        panoptic = output.get("panoptic_seg")
        row = [draw_image(image), empty]
        if has_semantic(output):
            row[1] = self._draw_classes(semantic_labels_of(output))
        if panoptic is not None:
            classes = [segment["category_id"] for segment in panoptic[1]]
            self._shown = np.union1d(self._shown, np.array(classes, np.int64))
            row.append(draw_panoptic_overlay(image, panoptic, self._colors))
        return row


class PredictionPictures(HookBase):
    """Put a sheet of predictions into the event storage (so, TensorBoard) every so often."""

    def __init__(self, sheets: PredictionSheets, model: nn.Module, period: int):
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
