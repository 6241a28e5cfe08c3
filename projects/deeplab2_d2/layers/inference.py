"""Whether shortcuts of evaluation may be taken."""

import torch


def is_plain_inference() -> bool:
    """
    Whether nobody looks at single operations: neither autograd nor ``torch.jit.trace``.

    The tracer records with gradients and checks without; it must see the same operations.
    """
    return not (torch.is_grad_enabled() or torch.jit.is_tracing())
