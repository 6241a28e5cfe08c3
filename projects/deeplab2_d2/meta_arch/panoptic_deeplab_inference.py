"""From raw predictions to Detectron2's outputs, at the size of the original images."""

from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from detectron2.config import CfgNode

from ..postprocessing import postprocess_panoptic, semantic_scores, to_instances, to_panoptic_seg
from ..structures import ClassMap, PanopticDeepLabPrediction
from .class_map import class_map_from_config
from .image_batch import ImageBatch, Size
from .model_metadata import metadata_from_config


@dataclass(frozen=True)
class PanopticDeepLabInference:
    """
    Post-processing of a batch, image by image.

    Attributes:
        class_map: classes of the semantic channels.
        thing_ids: contiguous ids of the classes that have instances.
        label_divisor: panoptic label = class * label_divisor + instance number.
        center_threshold, nms_kernel, top_k_centers, stuff_area_limit: see
            :func:`postprocess_panoptic`.
        has_semantic_output, has_panoptic_output, has_instance_output: what is returned.
    """

    class_map: ClassMap
    thing_ids: Tuple[int, ...]
    label_divisor: int
    center_threshold: float = 0.1
    nms_kernel: int = 13
    top_k_centers: int = 400
    stuff_area_limit: int = 0
    has_semantic_output: bool = True
    has_panoptic_output: bool = True
    has_instance_output: bool = True

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "PanopticDeepLabInference":
        node = cfg.MODEL.DEEPLAB2.POSTPROCESSING
        metadata = metadata_from_config(cfg)
        return cls(
            class_map=class_map_from_config(cfg),
            thing_ids=tuple(metadata.thing_ids),
            label_divisor=metadata.label_divisor,
            center_threshold=node.CENTER_THRESHOLD,
            nms_kernel=node.NMS_KERNEL,
            top_k_centers=node.TOP_K_CENTERS,
            stuff_area_limit=node.STUFF_AREA_LIMIT,
            has_semantic_output=node.SEMANTIC_OUTPUT,
            has_panoptic_output=node.PANOPTIC_OUTPUT,
            has_instance_output=node.INSTANCE_OUTPUT,
        )

    def __call__(
        self,
        prediction: PanopticDeepLabPrediction,
        images: ImageBatch,
        output_sizes: Sequence[Size],
    ) -> List[Dict[str, Any]]:
        """
        Args:
            prediction: raw maps that cover ``images.tensor``.
            images: what was predicted on.
            output_sizes: (height, width) of each image's outputs.

        Returns:
            For each image the dict that :meth:`DeepLab2PanopticDeepLab.forward` describes.
        """
        input_size = (int(images.tensor.shape[-2]), int(images.tensor.shape[-1]))
        return [
            self._process_one(_select(prediction, k), input_size, images.image_sizes[k], size)
            for k, size in enumerate(output_sizes)
        ]

    def _process_one(
        self,
        prediction: PanopticDeepLabPrediction,
        input_size: Size,
        image_size: Size,
        output_size: Size,
    ) -> Dict[str, Any]:
        output: Dict[str, Any] = {}
        if self.has_semantic_output:
            logits = prediction.semantic_logits
            output["sem_seg"] = semantic_scores(
                logits,
                input_size=input_size,
                image_size=image_size,
                output_size=output_size,
                class_map=self.class_map,
            )[0]
        is_panoptic = prediction.center_heatmap is not None
        if not is_panoptic or not (self.has_panoptic_output or self.has_instance_output):
            return output
        result = postprocess_panoptic(
            prediction,
            input_size=input_size,
            image_size=image_size,
            output_size=output_size,
            thing_ids=self.thing_ids,
            label_divisor=self.label_divisor,
            stuff_area_limit=self.stuff_area_limit,
            center_threshold=self.center_threshold,
            nms_kernel=self.nms_kernel,
            top_k_centers=self.top_k_centers,
            class_map=self.class_map,
        )
        panoptic_map, segments = to_panoptic_seg(result, 0, label_divisor=self.label_divisor)
        if self.has_panoptic_output:
            output["panoptic_seg"] = (panoptic_map, segments)
        if self.has_instance_output:
            output["instances"] = to_instances(panoptic_map, segments)
        return output


def _select(prediction: PanopticDeepLabPrediction, index: int) -> PanopticDeepLabPrediction:
    one = slice(index, index + 1)
    heatmap, offsets = prediction.center_heatmap, prediction.center_offsets
    return PanopticDeepLabPrediction(
        prediction.semantic_logits[one],
        None if heatmap is None else heatmap[one],
        None if offsets is None else offsets[one],
    )
