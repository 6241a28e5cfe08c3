"""From raw predictions to Detectron2's outputs, at the size of the original images."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Dict, List, Sequence, Tuple

from detectron2.config import CfgNode

from ...config import outputs_from_config
from ...ops import PanopticSegmentation
from ...postprocessing import (
    Frames,
    panoptic_from_centers,
    to_panoptic_outputs,
    to_semantic_outputs,
)
from ...structures import SEMANTIC_LABELS, ClassMap, Prediction, select_images
from ..class_map import class_map_from_config
from ..image_batch import ImageBatch
from ..model_metadata import metadata_from_config
from ..parts import Sample

# Beside the outputs that need no more than a device.
_SEGMENTATION = "segmentation"


@dataclass(frozen=True)
class PanopticDeepLabInference:
    """
    Post-processing of a batch, image by image.

    Attributes:
        class_map: classes of the semantic channels.
        thing_ids: contiguous ids of the classes that have instances.
        label_divisor: panoptic label = class * label_divisor + instance number.
        center_threshold, nms_kernel, top_k_centers, stuff_area_limit: see
            :func:`panoptic_from_centers`.
        outputs: which keys of an image's dict are made.
    """

    class_map: ClassMap
    thing_ids: Tuple[int, ...]
    label_divisor: int
    center_threshold: float = 0.1
    nms_kernel: int = 13
    top_k_centers: int = 400
    stuff_area_limit: int = 0
    outputs: Tuple[str, ...] = ("sem_seg", "panoptic_seg", "instances")
    makes_labels: ClassVar[bool] = True

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "PanopticDeepLabInference":
        node = cfg.MODEL.DEEPLAB2.POSTPROCESSING
        has_instances = cfg.MODEL.DEEPLAB2.INSTANCE_ENABLED
        classes = metadata_from_config(cfg, needs_things=has_instances)
        return cls(
            class_map=class_map_from_config(cfg),
            thing_ids=classes.thing_ids if has_instances else (),
            label_divisor=classes.label_divisor,
            center_threshold=node.CENTER_THRESHOLD,
            nms_kernel=node.NMS_KERNEL,
            top_k_centers=node.TOP_K_CENTERS,
            stuff_area_limit=node.STUFF_AREA_LIMIT,
            outputs=outputs_from_config(cfg),
        )

    def with_outputs(self, *outputs: str) -> "PanopticDeepLabInference":
        """The same, making other keys."""
        return replace(self, outputs=outputs)

    def __call__(
        self, prediction: Prediction, images: ImageBatch, samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """
        Args:
            prediction: raw maps of the heads (see :func:`describe_heads`) that cover ``images``.
            images: the network's input.
            samples: with the sizes of the outputs.

        Returns:
            For each image the dict that :meth:`Segmenter.forward` describes.
        """
        return self.complete(self.compute(prediction, images, samples))

    @property
    def is_capturable(self) -> bool:
        """How many centers there are is known by the GPU alone."""
        return self.top_k_centers > 0

    def compute(
        self, prediction: Prediction, images: ImageBatch, samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """See :class:`StagedInference`."""
        computed = []
        for index, sample in enumerate(samples):
            one, frames = select_images(prediction, index), images.frames(sample, index)
            parts = self.scores(one, frames)
            if "center_heatmap" in one and not set(self.outputs) <= {"sem_seg", SEMANTIC_LABELS}:
                parts[_SEGMENTATION] = self.segment(one, frames)
            computed.append(parts)
        return computed

    def complete(self, computed: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """See :class:`StagedInference`."""
        outputs = []
        for parts in computed:
            output = {name: part for name, part in parts.items() if name != _SEGMENTATION}
            if _SEGMENTATION in parts:
                output.update(self.describe(parts[_SEGMENTATION]))
            outputs.append(output)
        return outputs

    def scores(self, prediction: Prediction, frames: Frames) -> Dict[str, Any]:
        """Those of ``sem_seg`` and ``sem_seg_labels`` of one image that are wanted."""
        logits = prediction["semantic_logits"]
        return to_semantic_outputs(logits, frames, self.outputs, class_map=self.class_map)

    def segment(self, prediction: Prediction, frames: Frames) -> PanopticSegmentation:
        """The labels of one image."""
        return panoptic_from_centers(
            prediction["semantic_logits"],
            prediction["center_heatmap"],
            prediction["center_offsets"],
            frames,
            **self.options,
        )

    @property
    def options(self) -> Dict[str, Any]:
        """The further arguments of :func:`panoptic_from_centers`."""
        return {
            "thing_ids": self.thing_ids,
            "label_divisor": self.label_divisor,
            "stuff_area_limit": self.stuff_area_limit,
            "center_threshold": self.center_threshold,
            "nms_kernel": self.nms_kernel,
            "top_k_centers": self.top_k_centers,
            "class_map": self.class_map,
        }

    def describe(self, result: PanopticSegmentation) -> Dict[str, Any]:
        """Those of ``panoptic_seg`` and ``instances`` of one image that are wanted."""
        return to_panoptic_outputs(result, 0, self.outputs, label_divisor=self.label_divisor)
