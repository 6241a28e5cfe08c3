"""From raw mask slots to Detectron2's outputs, at the size of the original images."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Dict, List, Sequence, Tuple

from detectron2.config import CfgNode

from ...config import outputs_from_config
from ...ops import SlotSegmentation
from ...postprocessing import (
    Frames,
    SlotOptions,
    panoptic_from_mask_slots,
    slot_semantic_scores,
    to_panoptic_outputs,
)
from ...structures import SEMANTIC_LABELS, ClassMap, Prediction
from ..class_map import class_map_from_config
from ..image_batch import ImageBatch, Size
from ..model_metadata import metadata_from_config
from ..parts import Sample


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
        outputs: which keys of an image's dict are made.
    """

    class_map: ClassMap
    thing_ids: Tuple[int, ...]
    label_divisor: int
    options: SlotOptions = SlotOptions()
    outputs: Tuple[str, ...] = ("sem_seg", "panoptic_seg", "instances")
    makes_labels: ClassVar[bool] = True
    is_capturable: ClassVar[bool] = True

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "MaXDeepLabInference":
        """
        Raises:
            ValueError: if a key of MODEL.DEEPLAB2.POSTPROCESSING has a value it must not have.
        """
        classes = metadata_from_config(cfg)
        return cls(
            class_map=class_map_from_config(cfg),
            thing_ids=classes.thing_ids,
            label_divisor=classes.label_divisor,
            options=slot_options_from_config(cfg),
            outputs=outputs_from_config(cfg),
        )

    def with_outputs(self, *outputs: str) -> "MaXDeepLabInference":
        """The same, making other keys."""
        return replace(self, outputs=outputs)

    def __call__(
        self, prediction: Prediction, images: ImageBatch, samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """
        Args:
            prediction: of :class:`MaXDeepLabHead`, masks that cover ``images``.
            images: the network's input.
            samples: with the sizes of the outputs.

        Returns:
            For each image the dict that :meth:`Segmenter.forward` describes. ``sem_seg``
            is 1 for the class of the slot that has the pixel, without thresholds and limits, as
            in DeepLab2, and 0 for the others.
        """
        return self.complete(self.compute(prediction, images, samples))

    def compute(
        self, prediction: Prediction, images: ImageBatch, samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """See :class:`StagedInference`."""
        sizes = [images.output_size(sample, index) for index, sample in enumerate(samples)]
        segment = partial(self.segment, prediction, images)
        return [{"segmentation": segment(index, size)} for index, size in enumerate(sizes)]

    def complete(self, computed: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """See :class:`StagedInference`."""
        return [self._to_output(parts["segmentation"]) for parts in computed]

    def segment(
        self, prediction: Prediction, images: ImageBatch, index: int, output_size: Size
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
            prediction["mask_logits"][one],
            prediction["class_logits"][one],
            Frames(images.input_size, images.image_sizes[index], output_size),
            thing_ids=self.thing_ids,
            label_divisor=self.label_divisor,
            options=self.options,
        )

    def _to_output(self, result: SlotSegmentation) -> Dict[str, Any]:
        output: Dict[str, Any] = {}
        if "sem_seg" in self.outputs:
            output["sem_seg"] = slot_semantic_scores(
                result.semantic_map[0], self.class_map.num_classes
            )
        if SEMANTIC_LABELS in self.outputs:
            output[SEMANTIC_LABELS] = result.semantic_map[0]
        divisor = self.label_divisor
        return {**output, **to_panoptic_outputs(result, 0, self.outputs, label_divisor=divisor)}


def slot_options_from_config(cfg: CfgNode) -> SlotOptions:
    """
    What MODEL.DEEPLAB2.POSTPROCESSING says about mask slots.

    Raises:
        ValueError: if a key has a value it must not have.
    """
    node = cfg.MODEL.DEEPLAB2.POSTPROCESSING
    return SlotOptions(
        mode=node.MASK_MODE,
        class_confidence_threshold=node.CONFIDENCE_THRESHOLDS[0],
        mask_confidence_threshold=node.CONFIDENCE_THRESHOLDS[1],
        thing_class_threshold=node.MASKWISE_CLASS_THRESHOLDS[0],
        stuff_class_threshold=node.MASKWISE_CLASS_THRESHOLDS[1],
        overlap_threshold=node.MASKWISE_OVERLAP_THRESHOLD,
        class_weight=node.MASKWISE_RANK_WEIGHTS[0],
        mask_weight=node.MASKWISE_RANK_WEIGHTS[1],
        thing_area_limit=node.THING_AREA_LIMIT,
        stuff_area_limit=node.STUFF_AREA_LIMIT,
    )
