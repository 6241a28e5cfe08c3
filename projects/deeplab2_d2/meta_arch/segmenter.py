"""What the panoptic meta architectures share: images in, losses or Detectron2's outputs out."""

from typing import Any, Dict, List, Mapping, Sequence, Union

import torch
from detectron2.modeling import Backbone
from torch import Tensor, nn

from .image_batch import ImageBatch, Size, batch_images


class PanopticSegmenter(nn.Module):
    """
    A backbone, a head, a criterion for training and an inference for evaluation.

    Subclasses are meta architectures: they build the four parts from a config and say which of
    the mapper's targets the criterion takes.

    Attributes:
        training_metrics: scalars of the last training step beside its losses, if there are any,
            without gradient; the trainer logs them.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        criterion: Any,
        inference: Any,
        output_stride: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        pad_to: Size = (0, 0),
    ):
        """
        Args:
            backbone: images to features.
            head: features to raw predictions.
            criterion: raw predictions and targets to losses.
            inference: raw predictions to Detectron2's outputs.
            output_stride: network inputs are padded to 1 + a multiple of it.
            pixel_mean, pixel_std: three values each, in the channel order of the images.
            pad_to: least (height, width) of the network's input in evaluation.
        """
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.criterion = criterion
        self.inference = inference
        self.output_stride = output_stride
        self.pad_to = (pad_to[0], pad_to[1])
        self.training_metrics: Dict[str, Tensor] = {}
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(3, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(3, 1, 1), False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(
        self, batched_inputs: List[Dict[str, Any]]
    ) -> Union[Dict[str, Tensor], List[Dict[str, Any]]]:
        """
        Args:
            batched_inputs: one dict an image. ``image`` is (3, h, w), 0..255, any size; in
                training with the targets of the model's mapper in :mod:`deeplab2_d2.data`; in
                evaluation ``height`` and ``width`` may name the size of the outputs (default: the
                image's).

        Returns:
            In training a dict of scalar losses. In evaluation one dict an image with

            - ``sem_seg``: (C, height, width) float logits;
            - ``panoptic_seg``: (map, segments_info); the map is (height, width) int32 with
              segment ids, 0 is void;
            - ``instances``: Detectron2 ``Instances`` with boxes, masks, classes and scores;

            as far as the config asks for them and the model predicts them.
        """
        images = self.batch([sample["image"] for sample in batched_inputs])
        prediction = self.predict(images.tensor)
        if self.training:
            return self._losses(prediction, batched_inputs, images)
        return self.postprocess(prediction, images, batched_inputs)

    def predict(self, images: Tensor) -> Any:
        """
        Args:
            images: (N, 3, H, W), normalised, H and W 1 + a multiple of the output stride.

        Returns:
            Raw predictions of the head.
        """
        return self.head(self.backbone(images))

    def postprocess(
        self, prediction: Any, images: ImageBatch, batched_inputs: Sequence[Mapping[str, Any]]
    ) -> List[Dict[str, Any]]:
        """
        Args:
            prediction: raw maps of any resolution that cover ``images.tensor``.
            images: what was predicted on.
            batched_inputs: ``height`` and ``width`` of the outputs, if not the images'.

        Returns:
            The outputs of :meth:`forward`.
        """
        output_sizes = [
            (int(sample.get("height", size[0])), int(sample.get("width", size[1])))
            for sample, size in zip(batched_inputs, images.image_sizes)
        ]
        return self.inference(prediction, images, output_sizes)

    def batch(self, images: Sequence[Tensor]) -> ImageBatch:
        """Normalise, pad and stack images as the network takes them."""
        return batch_images(
            images,
            pixel_mean=self.pixel_mean,
            pixel_std=self.pixel_std,
            stride=self.output_stride,
            pad_to=(0, 0) if self.training else self.pad_to,
        )

    def _losses(
        self,
        prediction: Any,
        batched_inputs: Sequence[Mapping[str, Any]],
        images: ImageBatch,
    ) -> Dict[str, Tensor]:
        return self.criterion(prediction, self._targets(batched_inputs, images))

    def _targets(self, batched_inputs: Sequence[Mapping[str, Any]], images: ImageBatch) -> Any:
        """What the criterion takes, at the size of ``images.tensor``."""
        raise NotImplementedError
