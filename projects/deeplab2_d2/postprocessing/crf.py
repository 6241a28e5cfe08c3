"""Semantic scores refined by a fully connected CRF, as DeepLab v1 and v2 refine theirs."""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops import dense_crf


@dataclass(frozen=True)
class CRFOptions:
    """
    Parameters by their names in the papers; see :func:`deeplab2_d2.ops.dense_crf`.

    The defaults are DeepLab's: w2 and theta_gamma as DeepLab v1 (arXiv:1412.7062, Sec. 5) and v2
    fix them; w1, theta_alpha and theta_beta, which the papers search for each network, as the
    script of v1's LargeFOV network has them.

    Attributes:
        num_iterations: of mean field.
        w1, theta_alpha, theta_beta: of the bilateral kernel: weight, pixels, grey levels.
        w2, theta_gamma: of the Gaussian kernel: weight, pixels.
        normalization: "after" filtering, as DeepLab's library, or "symmetric".
    """

    num_iterations: int = 10
    w1: float = 4.0
    theta_alpha: float = 49.0
    theta_beta: float = 5.0
    w2: float = 3.0
    theta_gamma: float = 3.0
    normalization: str = "after"


def refine_with_crf(
    semantic_logits: Tensor, image: Tensor, options: CRFOptions = CRFOptions()
) -> Tensor:
    """
    Semantic scores of an image, moved to its edges.

    Reference: DeepLab v1 (arXiv:1412.7062, Sec. 4) and v2 (arXiv:1606.00915, Sec. 3.3). The CRF
    runs on the CPU, wherever the scores are.

    Args:
        semantic_logits: (C, H, W) float, logits or log-probabilities (of probabilities:
            ``probabilities.log()``, of which none may be 0), at the image's resolution.
        image: (3, h, w), any number type, 0..255; brought to (H, W) if that is another size.
        options: parameters.

    Returns:
        (C, H, W) float32 log-probabilities, on the scores' device: their softmax is the marginals
        of the CRF.

    Raises:
        ValueError: for another shape; RuntimeError for scores that are not finite.
    """
    scores = semantic_logits.detach().float().cpu()
    image = image.detach().float().cpu()
    if scores.dim() == image.dim() == 3 and scores.shape[1:] != image.shape[1:]:
        size = (int(scores.shape[1]), int(scores.shape[2]))
        image = F.interpolate(image[None], size=size, mode="bilinear", align_corners=True)[0]
    marginals = dense_crf(scores, image, **asdict(options))
    # 0 has no logarithm that is a number.
    least = torch.finfo(torch.float32).tiny
    return marginals.clamp(min=least).log().to(semantic_logits.device)
