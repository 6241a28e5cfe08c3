"""The dense CRF after ``sem_seg``, for any model."""

from typing import Any, Dict, List, Mapping, Optional, Sequence

from detectron2.config import CfgNode
from torch import nn

from ..postprocessing import CRFOptions, refine_with_crf


def crf_from_config(cfg: CfgNode) -> Optional[CRFOptions]:
    """What MODEL.DEEPLAB2.CRF says; None if it is not ENABLED."""
    node = cfg.MODEL.DEEPLAB2.CRF
    if not node.ENABLED:
        return None
    return CRFOptions(
        num_iterations=node.NUM_ITERATIONS,
        w1=node.W1,
        theta_alpha=node.THETA_ALPHA,
        theta_beta=node.THETA_BETA,
        w2=node.W2,
        theta_gamma=node.THETA_GAMMA,
        normalization=node.NORMALIZATION,
    )


def refine_outputs(
    outputs: Sequence[Mapping[str, Any]], samples: Sequence[Mapping[str, Any]], options: CRFOptions
) -> List[Dict[str, Any]]:
    """
    Outputs of images with ``sem_seg`` refined, where there is one; the rest is left as it is.

    Args:
        outputs: Detectron2's, one dict an image.
        samples: of the same images, with ``image`` (3, h, w), 0..255, of any size.
        options: parameters of the CRF.
    """
    refined = []
    for output, sample in zip(outputs, samples):
        refined.append(dict(output))
        if "sem_seg" in output:
            scores = refine_with_crf(output["sem_seg"], sample["image"], options)
            refined[-1]["sem_seg"] = scores
    return refined


def refine_in_evaluation(model: nn.Module, options: CRFOptions) -> None:
    """
    Let a model that knows nothing of the CRF refine what it returns in evaluation.

    Args:
        model: takes and returns what Detectron2's models do; a :class:`Segmenter` has the CRF of
            its config already.
    """

    def refine(module: nn.Module, inputs: Any, outputs: Any) -> Any:
        return None if module.training else refine_outputs(outputs, inputs[0], options)

    model.register_forward_hook(refine)
