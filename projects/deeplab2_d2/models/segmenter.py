"""What the models share: images in, losses or Detectron2's outputs out."""

from typing import Any, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple, Union

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import Backbone
from torch import Tensor, nn

from ..layers import fast_layout
from ..ops import SlotSegmentation
from ..postprocessing import CRFOptions
from ..structures import ClassMap, MapKind, Prediction
from .image_batch import ImageBatch, Size, batch_images
from .refinement import crf_from_config, refine_outputs
from .semantic_labels import are_labels_enough, with_labels
from .target_batch import Padding, stack_targets

# Detectron2's dict of one image: ``image`` and whatever mapper, loader and caller add to it.
Sample = Mapping[str, Any]
Losses = Dict[str, Tensor]


class Head(Protocol):
    """
    Features of the backbone to raw predictions.

    Attributes:
        kinds: name of every map of a prediction to its kind.
    """

    kinds: Dict[str, MapKind]

    def __call__(self, features: Any) -> Prediction: ...


class Criterion(Protocol):
    """Raw predictions and targets to losses."""

    @property
    def target_padding(self) -> Mapping[str, Padding]:
        """The targets that are needed, and how each is padded; see :func:`stack_targets`."""
        ...

    def __call__(
        self,
        predictions: Sequence[Prediction],
        targets: Mapping[str, Tensor],
        sources: Sequence[str],
    ) -> Tuple[Losses, Dict[str, Tensor]]:
        """
        Args:
            predictions: the final one, then auxiliary ones.
            targets: name to (N, ...), maps at the size of the network's input.
            sources: name of each image, for errors.

        Returns:
            Losses, and metrics without gradient: scalars by name.
        """
        ...


class Inference(Protocol):
    """
    Raw predictions to Detectron2's outputs.

    Attributes:
        class_map: classes of the semantic channels.
        outputs: which keys of an image's dict are made.

    One that makes ``sem_seg_labels`` if that is among the outputs has ``makes_labels = True``.
    """

    @property
    def class_map(self) -> ClassMap: ...

    @property
    def outputs(self) -> Tuple[str, ...]: ...

    def with_outputs(self, *outputs: str) -> "Inference":
        """The same, making other keys."""
        ...

    def __call__(
        self, prediction: Prediction, images: ImageBatch, samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """
        Args:
            prediction: raw maps that cover ``images.tensor``.
            images: the network's input.
            samples: with ``height`` and ``width`` of the outputs, if they are not the images', and
                for videos the sequence, the frame and the caller's state.

        Returns:
            One dict an image, see :meth:`Segmenter.forward`.
        """
        ...


class SlotInference(Inference, Protocol):
    """
    The inference of a model with mask slots.

    Attributes:
        thing_ids: contiguous ids of the classes that have instances, ascending.
        label_divisor: panoptic label = class * label_divisor + instance number.
    """

    @property
    def thing_ids(self) -> Tuple[int, ...]: ...

    @property
    def label_divisor(self) -> int: ...

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
        ...


class Segmenter(nn.Module):
    """
    A backbone, a head, a criterion for training and an inference for evaluation.

    Subclasses are meta architectures: each builds the four parts from a config.

    Attributes:
        training_metrics: scalars of the last training step beside its losses, if there are any,
            without gradient; the trainer logs them.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        criterion: Criterion,
        inference: Inference,
        output_stride: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        pad_to: Size = (0, 0),
        crf: Optional[CRFOptions] = None,
    ):
        """
        Args:
            backbone: images to features.
            head: a :class:`Head`.
            criterion, inference: for training and for evaluation.
            output_stride: network inputs are padded to 1 + a multiple of it, unless the backbone
                asks for other sizes; see :func:`backbone_size`.
            pixel_mean, pixel_std: a value for each channel of the network's input, of any number.
            pad_to: least (height, width) of the network's input in evaluation.
            crf: of a CRF that refines ``sem_seg`` in evaluation; None = none.
        """
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.criterion = criterion
        self.inference = inference
        self.output_stride = output_stride
        self.pad_to = (pad_to[0], pad_to[1])
        self.crf = crf
        self.training_metrics: Dict[str, Tensor] = {}
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Dict[str, Any]:
        """The arguments that the shared keys decide; subclasses add the four parts."""
        return {
            "output_stride": cfg.MODEL.DEEPLAB2.BACKBONE.OUTPUT_STRIDE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "pad_to": tuple(cfg.TEST.DEEPLAB2.PAD_TO),
            "crf": crf_from_config(cfg),
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def network(self) -> nn.Sequential:
        """
        Backbone and head as one module, from normalised images to raw maps, of the same parameters.

        What ``torch.export``, ``torch.jit.trace`` (with ``strict=False``, for the dict) and
        counters of operations take.
        """
        return nn.Sequential(self.backbone, self.head).train(self.training)

    def forward(self, batched_inputs: List[Dict[str, Any]]) -> Union[Losses, List[Dict[str, Any]]]:
        """
        Args:
            batched_inputs: one dict an image. ``image`` is (3, h, w), 0..255, any size; in
                training with the targets of the model's mapper; in evaluation ``height`` and
                ``width`` may name the size of the outputs (default: the image's).

        Returns:
            In training a dict of scalar losses. In evaluation one dict an image with

            - ``sem_seg``: (C, height, width) float logits, after a CRF log-probabilities;
            - ``panoptic_seg``: (map, segments_info); the map is (height, width) int32 with
              segment ids, 0 is void;
            - ``instances``: Detectron2 ``Instances`` with boxes, masks, classes and scores;

            as far as the config asks for them and the model predicts them. Within
            :func:`labels_are_enough`, ``sem_seg_labels``, (height, width) int32, for ``sem_seg``.
        """
        images = self.batch(batched_inputs)
        prediction = self.predict(images.tensor)
        if self.training:
            return self._losses(prediction, batched_inputs, images)
        return self.postprocess(prediction, images, batched_inputs)

    def batch(self, samples: Sequence[Sample]) -> ImageBatch:
        """Normalise, pad and stack what the network sees of samples."""
        return batch_images(
            [self.network_input(sample) for sample in samples],
            pixel_mean=self.pixel_mean,
            pixel_std=self.pixel_std,
            stride=self.output_stride,
            pad_to=(0, 0) if self.training else self.pad_to,
            backbone=self.backbone,
        )

    def network_input(self, sample: Sample) -> Tensor:
        """
        What the network sees of a sample, as (C, h, w) before normalisation: its image.

        A model of several frames stacks their channels here.
        """
        return sample["image"]

    def predict(self, images: Tensor) -> Prediction:
        """
        Args:
            images: (N, C, H, W), normalised, H and W 1 + a multiple of the output stride.

        Returns:
            Raw maps of the head.
        """
        return self.head(self.backbone(fast_layout(images)))

    def auxiliary_predictions(self, prediction: Prediction) -> List[Prediction]:
        """Predictions beside the final one that the criterion takes, too: none."""
        return []

    def postprocess(
        self, prediction: Prediction, images: ImageBatch, samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """
        Args:
            prediction: raw maps of any resolution that cover ``images.tensor``.
            images: the network's input.
            samples: those of :meth:`forward`.

        Returns:
            The outputs of :meth:`forward`.
        """
        inference = self.inference
        if are_labels_enough() and self.crf is None:
            inference = with_labels(inference)
        return self.refine(inference(prediction, images, samples), samples)

    def refine(
        self, outputs: List[Dict[str, Any]], samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """Outputs with ``sem_seg`` refined by the CRF, if there is one, and nothing else."""
        return outputs if self.crf is None else refine_outputs(outputs, samples, self.crf)

    def _losses(
        self, prediction: Prediction, samples: Sequence[Sample], images: ImageBatch
    ) -> Losses:
        height, width = images.tensor.shape[-2:]
        targets = stack_targets(
            samples,
            self.criterion.target_padding,
            size=(int(height), int(width)),
            device=self.device,
        )
        losses, self.training_metrics = self.criterion(
            [prediction, *self.auxiliary_predictions(prediction)],
            targets,
            [str(sample.get("file_name", "no file_name")) for sample in samples],
        )
        return losses
