"""Gradient clipping by the norm of all gradients together."""

from typing import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def clip_gradient_norm(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """
    Scale all gradients in place so that their common norm is at most ``max_norm``.

    As ``tf.clip_by_global_norm``: the factor is ``max_norm / max(norm, max_norm)``, without the
    1e-6 that PyTorch's ``clip_grad_norm_`` adds. Nothing is copied to the host. With a
    ``GradScaler``, call its ``unscale_`` first; infinite gradients become NaN here, and the scaler
    skips the step as it has found them already.

    Args:
        parameters: those without a gradient are passed over.
        max_norm: positive.

    Returns:
        Scalar float32, the norm before clipping; 0 if there is no gradient.

    Raises:
        ValueError: if ``max_norm`` is not positive.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be positive, got {max_norm}")
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = torch.stack(torch._foreach_norm(gradients, 2.0))
    norm = torch.linalg.vector_norm(norms.float())
    torch._foreach_mul_(gradients, max_norm / norm.clamp(min=max_norm))
    return norm
