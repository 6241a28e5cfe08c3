"""From images to predictions, with the checkpoints and the resizing of this project."""

import contextlib
from typing import Any, Dict, List, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor

from ..data import ResizeToRange
from ..models import labels_are_enough
from .evaluators import model_outputs
from .setup import ConfigError
from .testing import load_test_model


class DeepLab2Predictor(DefaultPredictor):
    """
    Detectron2's ``DefaultPredictor`` (BGR array in, one output dict out), resizing as DeepLab2.

    ``DefaultPredictor`` itself works too: it resizes with Pillow's antialiasing instead of aligned
    corners, and it does not know the classes of ``deeplab2://`` weights.
    """

    def __init__(self, cfg: CfgNode, *, allow_random_weights: bool = False):
        """
        Args:
            cfg: weights, views and output stride as ``--eval-only`` takes them.
            allow_random_weights: let what the weights lack be random.

        Raises:
            ConfigError: if DATASETS.TEST names no dataset, whose classes the outputs would have, or
                if a weight of the model would be random.
        """
        # Not DefaultPredictor's own, which builds its own checkpointer.
        if not cfg.DATASETS.TEST:
            raise ConfigError("config key DATASETS.TEST must name a dataset, got ()")
        self.cfg = cfg.clone()
        self.model = load_test_model(self.cfg, allow_random_weights=allow_random_weights)
        self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        self.aug = ResizeToRange(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
        self.input_format = cfg.INPUT.FORMAT

    def __call__(self, original_image: np.ndarray) -> Dict[str, Any]:
        """The model's output of one image; see :meth:`prepare`."""
        return self.predict_batch([original_image])[0]

    def prepare(self, image: np.ndarray) -> Dict[str, Any]:
        """
        The sample that the model takes of an image.

        Args:
            image: (H, W, 3) BGR, 0 to 255.
        """
        ordered = image[:, :, ::-1] if self.input_format == "RGB" else image
        height, width = ordered.shape[:2]
        resized = self.aug.get_transform(ordered).apply_image(ordered.astype(np.float32))
        pixels = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        return {"image": pixels, "height": height, "width": width}

    def predict_batch(
        self, images: Sequence[np.ndarray], *, needs_scores: bool = True
    ) -> List[Dict[str, Any]]:
        """
        One pass of the network for several images.

        Images of other sizes than the largest one are padded: what a network sees beside them
        changes what it says near their edges.

        Args:
            images: see :meth:`prepare`.
            needs_scores: else a model of panoptic maps returns ``sem_seg_labels`` in place of
                ``sem_seg``, as far as it can: see :func:`labels_are_enough`.

        Returns:
            The model's output of each.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            # Of a semantic model the scores of segments are made of the scores of classes.
            if not needs_scores and "panoptic_seg" in model_outputs(self.cfg):
                stack.enter_context(labels_are_enough())
            outputs: List[Dict[str, Any]] = self.model([self.prepare(image) for image in images])
        return outputs
