"""Operator: mean field of a fully connected CRF on the pixels of an image, on the CPU."""

import torch
from torch import Tensor

from . import reference
from .checks import check_shape
from .extension import has_kernels, register_fake

NORMALIZATIONS = ("after", "symmetric")


def dense_crf(
    logits: Tensor,
    image: Tensor,
    *,
    num_iterations: int,
    w1: float,
    theta_alpha: float,
    theta_beta: float,
    w2: float,
    theta_gamma: float,
    normalization: str,
) -> Tensor:
    """
    Marginals of a fully connected CRF by mean field, filtered on permutohedral lattices.

    Reference: Krähenbühl and Koltun (arXiv:1210.5644), as DeepLab v1 (arXiv:1412.7062, Sec. 4) and
    v2 (arXiv:1606.00915, Sec. 3.3) use it: Potts model, and for pixels i and j at p with colors I
    the kernel ``w1 * exp(-|p_i - p_j|^2 / (2 theta_alpha^2) - |I_i - I_j|^2 / (2 theta_beta^2)) +
    w2 * exp(-|p_i - p_j|^2 / (2 theta_gamma^2))``. A pixel is its own neighbor, too. Results are
    the same for any number of threads.

    Args:
        logits: (C, H, W) float32 or float64, on the CPU, finite: minus the unary energy. Scores or
            log-probabilities; their softmax is where mean field begins.
        image: (3, H, W), any number type, finite: colors as the thetas mean them, 0..255.
        num_iterations: at least 0; 0 gives the softmax of the logits.
        w1, theta_alpha, theta_beta: of the bilateral kernel: weight (at least 0), pixels, grey
            levels (positive).
        w2, theta_gamma: of the Gaussian kernel: weight (at least 0), pixels (positive).
        normalization: of each kernel matrix K, with the diagonal matrix D of its sums of rows:
            "after" filters, then divides (``D^-1 K``, DeepLab's library); "symmetric" is
            ``D^-1/2 K D^-1/2`` (the default of pydensecrf).

    Returns:
        (C, H, W) of the logits' type, of sum 1 at each pixel.

    Raises:
        ValueError: if an argument is not as above; RuntimeError if a kernel finds a value that is
            not finite, or thetas so small that the lattice has more than 2**62 points.
    """
    name = "dense_crf"
    check_shape(f"{name}: logits", logits, ("C", "H", "W"), "(C, H, W)")
    if logits.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name}: logits must be float32 or float64, got {logits.dtype}")
    if logits.numel() == 0:
        raise ValueError(
            f"{name}: logits must have at least a class and a pixel, got {tuple(logits.shape)}"
        )
    height, width = logits.shape[1:]
    check_shape(f"{name}: image", image, (3, height, width), f"(3, {height}, {width})")
    for argument, tensor in (("logits", logits), ("image", image)):
        if tensor.device.type not in ("cpu", "meta"):
            raise ValueError(
                f"{name}: {argument} must be on the CPU (the dense CRF has no GPU kernel; "
                f"{argument}.cpu() moves them), got {tensor.device}"
            )
    _check_numbers(num_iterations, w1, theta_alpha, theta_beta, w2, theta_gamma)
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"{name}: normalization must be one of {', '.join(map(repr, NORMALIZATIONS))}, got "
            f"{normalization!r}"
        )
    run = torch.ops.deeplab2_d2.dense_crf if has_kernels(name, "cpu") else reference.dense_crf
    return run(
        logits,
        image,
        num_iterations=num_iterations,
        weights=[w1, w2],
        thetas=[theta_alpha, theta_beta, theta_gamma],
        normalization=normalization,
    )


def _check_numbers(
    num_iterations: int,
    w1: float,
    theta_alpha: float,
    theta_beta: float,
    w2: float,
    theta_gamma: float,
) -> None:
    if num_iterations < 0:
        raise ValueError(f"dense_crf: num_iterations must be at least 0, got {num_iterations}")
    for argument, weight in (("w1", w1), ("w2", w2)):
        if not 0 <= weight < float("inf"):
            raise ValueError(f"dense_crf: {argument} must be at least 0, got {weight}")
    thetas = {"theta_alpha": theta_alpha, "theta_beta": theta_beta, "theta_gamma": theta_gamma}
    for argument, theta in thetas.items():
        if not 0 < theta < float("inf"):
            raise ValueError(f"dense_crf: {argument} must be positive, got {theta}")


@register_fake("dense_crf")
def _fake(logits: Tensor, image: Tensor, **options: object) -> Tensor:
    return torch.empty_like(logits, memory_format=torch.contiguous_format)
