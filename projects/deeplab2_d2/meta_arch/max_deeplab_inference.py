"""From raw mask slots to Detectron2's outputs, at the size of the original images."""

from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from detectron2.config import CfgNode

from ..ops import SlotSegmentation
from ..postprocessing import (
    MaXDeepLabPostprocessing,
    panoptic_from_mask_slots,
    slot_semantic_scores,
    to_instances,
    to_panoptic_seg,
)
from ..structures import ClassMap, MaXDeepLabPrediction
from .class_map import class_map_from_config
from .image_batch import ImageBatch, Size
from .model_metadata import metadata_from_config


@dataclass(frozen=True)
class MaXDeepLabInference:
    """
    Post-processing of a batch, image by image.

    Attributes:
        class_map: classes of the auxiliary semantic channels; of the dataset's classes only their
            number is used.
        thing_ids: contiguous ids of the classes that have instances, ascending.
        label_divisor: panoptic label = class * label_divisor + instance number.
        options: thresholds, limits and mode.
        has_semantic_output, has_panoptic_output, has_instance_output: what is returned.
    """

    class_map: ClassMap
    thing_ids: Tuple[int, ...]
    label_divisor: int
    options: MaXDeepLabPostprocessing = MaXDeepLabPostprocessing()
    has_semantic_output: bool = True
    has_panoptic_output: bool = True
    has_instance_output: bool = True

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "MaXDeepLabInference":
        """
        Raises:
            ValueError: if a key of MODEL.DEEPLAB2.POSTPROCESSING has a value it must not have.
        """
        node = cfg.MODEL.DEEPLAB2.POSTPROCESSING
        metadata = metadata_from_config(cfg)
        return cls(
            class_map=class_map_from_config(cfg),
            thing_ids=tuple(metadata.thing_ids),
            label_divisor=metadata.label_divisor,
            options=postprocessing_from_config(cfg),
            has_semantic_output=node.SEMANTIC_OUTPUT,
            has_panoptic_output=node.PANOPTIC_OUTPUT,
            has_instance_output=node.INSTANCE_OUTPUT,
        )

    def __call__(
        self,
        prediction: MaXDeepLabPrediction,
        images: ImageBatch,
        output_sizes: Sequence[Size],
    ) -> List[Dict[str, Any]]:
        """
        Args:
            prediction: raw masks that cover ``images.tensor``.
            images: what was predicted on.
            output_sizes: (height, width) of each image's outputs.

        Returns:
            For each image the dict that :meth:`PanopticSegmenter.forward` describes. ``sem_seg``
            is 1 for the class of the slot that has the pixel, without thresholds and limits, as
            in DeepLab2, and 0 for the others.
        """
        return [
            self._to_output(self.segment(prediction, images, k, size))
            for k, size in enumerate(output_sizes)
        ]

    def segment(
        self, prediction: MaXDeepLabPrediction, images: ImageBatch, index: int, output_size: Size
    ) -> SlotSegmentation:
        """
        Args:
            prediction, images: as in a call.
            index: of the image.
            output_size: (height, width) of its outputs.

        Returns:
            Labels, slots and scores of that one image.
        """
        one = slice(index, index + 1)
        return panoptic_from_mask_slots(
            prediction.mask_logits[one],
            prediction.class_logits[one],
            thing_ids=self.thing_ids,
            label_divisor=self.label_divisor,
            input_size=(int(images.tensor.shape[-2]), int(images.tensor.shape[-1])),
            image_size=images.image_sizes[index],
            output_size=output_size,
            options=self.options,
        )

    def _to_output(self, result: SlotSegmentation) -> Dict[str, Any]:
        output: Dict[str, Any] = {}
        if self.has_semantic_output:
            output["sem_seg"] = slot_semantic_scores(
                result.semantic_map[0], self.class_map.num_classes
            )
        panoptic_map, segments = to_panoptic_seg(result, 0, label_divisor=self.label_divisor)
        if self.has_panoptic_output:
            output["panoptic_seg"] = (panoptic_map, segments)
        if self.has_instance_output:
            output["instances"] = to_instances(panoptic_map, segments)
        return output


def postprocessing_from_config(cfg: CfgNode) -> MaXDeepLabPostprocessing:
    """
    What MODEL.DEEPLAB2.POSTPROCESSING says about mask slots.

    Raises:
        ValueError: if a key has a value it must not have.
    """
    node = cfg.MODEL.DEEPLAB2.POSTPROCESSING
    return MaXDeepLabPostprocessing(
        mode=node.MASK_MODE,
        class_confidence_threshold=node.CLASS_CONFIDENCE_THRESHOLD,
        mask_confidence_threshold=node.PIXEL_CONFIDENCE_THRESHOLD,
        thing_class_threshold=node.MASKWISE_THING_THRESHOLD,
        stuff_class_threshold=node.MASKWISE_STUFF_THRESHOLD,
        overlap_threshold=node.MASKWISE_OVERLAP_THRESHOLD,
        class_weight=node.MASKWISE_CLASS_WEIGHT,
        mask_weight=node.MASKWISE_MASK_WEIGHT,
        thing_area_limit=node.THING_AREA_LIMIT,
        stuff_area_limit=node.STUFF_AREA_LIMIT,
    )
