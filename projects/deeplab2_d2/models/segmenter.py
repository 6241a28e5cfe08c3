"""What the models share: images in, losses or Detectron2's outputs out."""

import logging
from typing import Any, Dict, List, Optional, Sequence, Union

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import Backbone
from detectron2.utils.logger import log_first_n
from torch import Tensor, nn

from ..layers import fast_layout
from ..postprocessing import CRFOptions
from ..structures import Prediction
from .captured_inference import CapturedInference
from .image_batch import ImageBatch, Size, batch_images
from .parts import Criterion, Inference, Losses, Sample
from .refinement import crf_from_config, refine_outputs
from .semantic_labels import are_labels_enough, with_labels
from .target_batch import stack_targets


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
        cuda_graph: bool = False,
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
            cuda_graph: whether inference on a GPU is by CUDA graphs, see
                :class:`CapturedInference`.
        """
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.criterion = criterion
        self.inference = inference
        self.output_stride = output_stride
        self.pad_to = (pad_to[0], pad_to[1])
        self.crf = crf
        self.captured = CapturedInference() if cuda_graph else None
        # Loading may put other tensors in the place of parameters.
        self.register_load_state_dict_post_hook(_forget_graphs)
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
            "cuda_graph": cfg.TEST.DEEPLAB2.CUDA_GRAPH,
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
        if self.captured is not None and self._is_plain_inference():
            return self.captured(self, images, batched_inputs)
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
        return self.refine(self.wanted_inference()(prediction, images, samples), samples)

    def wanted_inference(self) -> Inference:
        """The inference, making labels in place of scores where they are enough."""
        if are_labels_enough() and self.crf is None:
            return with_labels(self.inference)
        return self.inference

    def refine(
        self, outputs: List[Dict[str, Any]], samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """Outputs with ``sem_seg`` refined by the CRF, if there is one, and nothing else."""
        return outputs if self.crf is None else refine_outputs(outputs, samples, self.crf)

    def _is_plain_inference(self) -> bool:
        """Whether graphs may be made of what runs now."""
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        if self.device.type != "cuda":
            log_first_n(
                logging.WARNING,
                f"TEST.DEEPLAB2.CUDA_GRAPH has no effect: the model is on {self.device}",
                key="message",
            )
            return False
        return True

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


def _forget_graphs(model: nn.Module, incompatible_keys: Any) -> None:
    assert isinstance(model, Segmenter)
    if model.captured is not None:
        model.captured.clear()
