"""The losses of MaX-DeepLab, at the resolution of its masks."""

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from torch import Tensor

from ...losses import MaXDeepLabLossOptions, build_mask_targets, max_deeplab_losses
from ...ops import linear_assignment
from ...structures import ClassMap, Prediction
from ..class_map import labels_to_channels
from ..target_batch import Padding

# The mapper's maps that the losses take, and the values of their padding.
_PADDING: Dict[str, Padding] = {"sem_seg_weights": 0.0, "thing_masks": -1, "thing_classes": None}


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
        options: weights and forms of the losses.
        use_ops: match with the compiled operator, where the model is; False: with SciPy.
    """

    ignore_label: int
    class_map: ClassMap
    thing_ids: Tuple[int, ...]
    stuff_ids: Tuple[int, ...]
    options: MaXDeepLabLossOptions = MaXDeepLabLossOptions()
    use_ops: bool = True

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
            predictions: raw outputs, any float type.
            targets: ``sem_seg``, ``sem_seg_weights`` and ``thing_masks``, (N, H, W), and
                ``thing_classes``, (N, T), of :class:`MaskTargetGenerator`. The masks' size
                is a stride of (H, W).
            sources: names of the images, for errors.

        Returns:
            ``loss_pq_class``, ``loss_pq_mask``, ``loss_mask_id``,
            ``loss_instance_discrimination`` and ``loss_semantic``, as far as they have a weight:
            float32 scalars, computed in float32 under autocast too. An output that no loss is left
            for has a gradient of 0. And metrics without gradient, see :func:`max_deeplab_losses`.
        """
        (prediction,) = predictions
        height, width = prediction["mask_logits"].shape[-2:]
        masks = build_mask_targets(
            targets["sem_seg"],
            targets["thing_masks"],
            targets["thing_classes"],
            size=(int(height), int(width)),
            thing_ids=self.thing_ids,
            stuff_ids=self.stuff_ids,
            ignore_label=self.ignore_label,
        )
        losses, metrics = max_deeplab_losses(
            prediction["mask_logits"].flatten(2),
            prediction["class_logits"],
            prediction["pixel_features"].flatten(2),
            masks,
            self.options,
            semantic_logits=prediction.get("semantic_logits"),
            semantic_labels=labels_to_channels(
                targets["sem_seg"], self.class_map, self.ignore_label
            ),
            semantic_weights=targets["sem_seg_weights"],
            ignore_label=self.ignore_label,
            solver=linear_assignment if self.use_ops else None,
            sources=sources,
        )
        means = {name: loss.mean() for name, loss in losses.items()}
        for name in list(means)[:1]:
            # Of no elements: processes that train together wait for every parameter's gradient.
            means[name] = sum((o[:0].sum() for o in self._idle_outputs(prediction)), means[name])
        return means, metrics

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
