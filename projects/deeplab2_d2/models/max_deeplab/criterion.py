"""The losses of MaX-DeepLab, at the resolution of its masks."""

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from detectron2.config import CfgNode
from torch import Tensor

from ...config import require
from ...losses import (
    MaskOutputs,
    MaskTransformerLossOptions,
    SurplusMasksError,
    build_mask_targets,
    mask_transformer_losses,
)
from ...structures import ClassMap, Prediction
from ..class_map import class_map_from_config
from ..model_metadata import metadata_from_config
from ..target_batch import Padding

# The mapper's targets that the losses take beside ``sem_seg``, and the values of their padding.
_PADDING: Dict[str, Padding] = {
    "sem_seg_weights": 0.0,
    "thing_masks": -1,
    "thing_classes": None,
}


@dataclass(frozen=True)
class MaXDeepLabCriterion:
    """
    Matching of slots and ground truth masks, and the weighted losses that follow.

    Reference: MaX-DeepLab (arXiv:2012.00759), Sec. 3.1 and 3.4, as DeepLab2 computes them: labels
    are sampled to the masks' resolution, every loss is averaged over the images.

    Attributes:
        ignore_label: semantic label without a loss.
        class_map: classes of the auxiliary semantic channels.
        thing_ids, stuff_ids: contiguous ids of the dataset, ascending; the class head's channels
            are the things, then the stuff.
        options: weights of the losses, and what else there is to choose.
    """

    ignore_label: int
    class_map: ClassMap
    thing_ids: Tuple[int, ...]
    stuff_ids: Tuple[int, ...]
    options: MaskTransformerLossOptions = MaskTransformerLossOptions()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "MaXDeepLabCriterion":
        classes = metadata_from_config(cfg)
        return cls(
            ignore_label=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            class_map=class_map_from_config(cfg),
            thing_ids=classes.thing_ids,
            stuff_ids=classes.stuff_ids,
            options=_options_from_config(cfg.MODEL.DEEPLAB2.LOSS),
        )

    @property
    def target_padding(self) -> Dict[str, Padding]:
        """The targets that are needed, and how each is padded."""
        return {"sem_seg": self.ignore_label, **_PADDING}

    def __call__(
        self,
        predictions: Sequence[Prediction],
        targets: Mapping[str, Tensor],
        sources: Optional[Sequence[str]] = None,
    ) -> Tuple[Dict[str, Tensor], Dict[str, Tensor]]:
        """
        Args:
            predictions: the final raw outputs, then auxiliary ones; any float type.
            targets: ``sem_seg``, ``sem_seg_weights`` and ``thing_masks``, (N, H, W), and
                ``thing_classes``, (N, T), of :class:`MaskTargetGenerator`. The masks' size
                is a stride of (H, W).
            sources: names of the images, for errors.

        Returns:
            The losses of :func:`mask_transformer_losses`, averaged over the images: float32
            scalars, computed in float32 under autocast too. An output that no loss is left for has
            a gradient of 0. And its metrics, without gradient.

        Raises:
            ValueError: naming the config key, if an image has more masks than slots and that is an
                error, or fewer pixels than are drawn for instance discrimination.
        """
        final = predictions[0]
        height, width = final["mask_logits"].shape[-2:]
        self._check_sampling(int(height * width))
        masks = build_mask_targets(
            targets["sem_seg"],
            targets["thing_masks"],
            targets["thing_classes"],
            size=(int(height), int(width)),
            thing_ids=self.thing_ids,
            stuff_ids=self.stuff_ids,
            ignore_label=self.ignore_label,
        )
        try:
            losses, metrics = mask_transformer_losses(
                [_flatten(prediction) for prediction in predictions],
                masks,
                self.options,
                semantic_logits=final.get("semantic_logits"),
                semantic_labels=self.class_map.to_channels(targets["sem_seg"], self.ignore_label),
                semantic_weights=targets["sem_seg_weights"],
                ignore_label=self.ignore_label,
                sources=sources,
            )
        except SurplusMasksError as error:
            key = "MODEL.DEEPLAB2.LOSS.SURPLUS_MASKS"
            raise ValueError(f"{error} (config key {key}: 'largest')") from error
        means = {name: loss.mean() for name, loss in losses.items()}
        idle = [output for prediction in predictions for output in self._idle_outputs(prediction)]
        for name in list(means)[:1]:
            # Of no elements: processes that train together wait for every parameter's gradient.
            means[name] = sum((output[:0].sum() for output in idle), means[name])
        return means, metrics

    def _check_sampling(self, num_pixels: int) -> None:
        count = self.options.num_samples
        require(
            count <= num_pixels or not self.options.instance_discrimination_weight,
            "MODEL.DEEPLAB2.LOSS.INSTANCE_DISCRIMINATION_SAMPLING",
            f"of at most {num_pixels} pixels, those of the masks",
            count,
        )

    def _idle_outputs(self, prediction: Prediction) -> List[Tensor]:
        """Those without a loss; the pixel features need none, they are in the masks."""
        options = self.options
        outputs = []
        if not options.pq_style_weight:
            outputs.append(prediction["class_logits"])
            if not options.mask_id_weight:
                outputs.append(prediction["mask_logits"])
        if not options.semantic_weight and "semantic_logits" in prediction:
            outputs.append(prediction["semantic_logits"])
        return outputs


def _flatten(prediction: Prediction) -> MaskOutputs:
    return MaskOutputs(
        prediction["mask_logits"].flatten(2),
        prediction["class_logits"],
        prediction["pixel_features"].flatten(2),
    )


def _options_from_config(node: CfgNode) -> MaskTransformerLossOptions:
    return MaskTransformerLossOptions(
        pq_style_weight=node.PQ_STYLE[0],
        alpha=node.PQ_STYLE[1],
        similarity=node.PQ_STYLE_SIMILARITY,
        unmatched_weight=node.UNMATCHED_WEIGHT,
        surplus_masks=node.SURPLUS_MASKS,
        mask_id_weight=node.MASK_ID[0],
        mask_id_top_k=node.MASK_ID[1],
        instance_discrimination_weight=node.INSTANCE_DISCRIMINATION[0],
        instance_discrimination_top_k=node.INSTANCE_DISCRIMINATION[1],
        temperature=node.INSTANCE_DISCRIMINATION_TEMPERATURE,
        num_samples=node.INSTANCE_DISCRIMINATION_SAMPLING[0],
        sample_temperature=node.INSTANCE_DISCRIMINATION_SAMPLING[1],
        semantic_weight=node.SEMANTIC[0],
        semantic_top_k=node.SEMANTIC[1],
    )
