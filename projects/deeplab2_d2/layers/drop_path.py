"""Stochastic depth (arXiv:1603.09382)."""

import torch
from torch import Tensor, nn

SCHEDULES = ("constant", "linear")


def drop_path_keep_prob(
    keep_prob: float, schedule: str, *, stage: int, num_stages: int = 4
) -> float:
    """
    The probability with which the blocks of a stage are kept.

    Args:
        keep_prob: of the last stage, in (0, 1].
        schedule: "constant", or "linear": falls from 1 at stage 0 (the stem).
        stage: 0 .. ``num_stages``.

    Raises:
        ValueError: for a probability or a schedule that is none of these.
    """
    if not 0.0 < keep_prob <= 1.0:
        raise ValueError(f"drop path keep_prob must be in (0, 1], got {keep_prob}")
    if schedule not in SCHEDULES:
        raise ValueError(f"drop path schedule must be one of {SCHEDULES}, got {schedule!r}")
    if schedule == "constant":
        return keep_prob
    return 1.0 - (1.0 - keep_prob) * stage / num_stages


class DropPath(nn.Module):
    """In training, set whole samples to 0 and divide the others by ``keep_prob``."""

    def __init__(self, keep_prob: float):
        """
        Args:
            keep_prob: in (0, 1]; 1 does nothing.

        Raises:
            ValueError: for another value.
        """
        super().__init__()
        if not 0.0 < keep_prob <= 1.0:
            raise ValueError(f"keep_prob must be in (0, 1], got {keep_prob}")
        self.keep_prob = keep_prob

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or self.keep_prob == 1.0:
            return features
        shape = (features.shape[0],) + (1,) * (features.dim() - 1)
        uniform = torch.rand(shape, device=features.device, dtype=torch.float32)
        keep = (uniform < self.keep_prob).to(features.dtype)
        return features * (keep / self.keep_prob)

    def extra_repr(self) -> str:
        return f"keep_prob={self.keep_prob}"


class GrowingDropPath(DropPath):
    """
    Of which more samples are dropped as the training goes on: none at its beginning.

    Reference: NASNet (arXiv:1707.07012), "ScheduledDropPath".
    """

    progress: Tensor

    def __init__(self, keep_prob: float):
        """
        Args:
            keep_prob: at the end of the training, in (0, 1].
        """
        super().__init__(keep_prob)
        # A tensor, so that a compiled network need not be compiled for each step.
        self.register_buffer("progress", torch.zeros(()), persistent=False)

    def follow(self, iteration: int, max_iter: int) -> None:
        """Take note of how far a training is; its trainer calls this before every step."""
        self.progress.fill_(min(1.0, iteration / max_iter))

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or self.keep_prob == 1.0:
            return features
        keep_prob = 1.0 - self.progress * (1.0 - self.keep_prob)
        shape = (features.shape[0],) + (1,) * (features.dim() - 1)
        uniform = torch.rand(shape, device=features.device, dtype=torch.float32)
        return features * ((uniform < keep_prob) / keep_prob).to(features.dtype)
