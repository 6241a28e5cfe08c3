"""
Memory of a training step, counted from the tensors that are alive, without computing them.

The step runs on PyTorch's fake tensors: every operation happens, backward and optimizer too, and
each tensor has its size and its lifetime, but no data. What the kernels allocate inside themselves
(cuDNN's workspaces, for example), what an allocator rounds up and what CUDA itself takes are not
counted.
"""

import contextlib
from dataclasses import dataclass
from typing import ContextManager, Dict, List, Tuple
from unittest import mock

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from deeplab2_d2.engine.live_memory import LiveMemory
from deeplab2_d2.solver import build_optimizer


@dataclass(frozen=True)
class TrainingMemory:
    """
    Attributes:
        state: bytes of weights, gradients and the optimizer's state.
        peak: most bytes during a step, with all of that.
    """

    state: int
    peak: int


def count_training_memory(cfg: CfgNode, size: Tuple[int, int], batch: int) -> TrainingMemory:
    """
    A training step of a config's MaX-DeepLab, not the first one.

    Args:
        cfg: in mixed precision if it says so, as on a CPU.
        size: (height, width) of the crops.
        batch: images.
    """
    # Its check asks for values.
    unchecked = mock.patch("deeplab2_d2.losses.mask_matching._check_finite")
    with unchecked, FakeTensorMode(), LiveMemory() as memory:
        step = TrainingStep(cfg, make_samples(cfg, size, batch))
        state = memory.current
        memory.restart()
        step()
        return TrainingMemory(state=state, peak=memory.peak)


def make_samples(cfg: CfgNode, size: Tuple[int, int], batch: int) -> List[Dict[str, Tensor]]:
    """What MaX-DeepLab's mapper gives, with things in the corners and stuff elsewhere."""
    samples = []
    for _ in range(batch):
        things = torch.full(size, -1, dtype=torch.int32)
        things[: size[0] // 4, : size[1] // 4] = 0
        things[-(size[0] // 4) :, -(size[1] // 4) :] = 1
        semantic = torch.where(things < 0, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES - 1, 0)
        classes = torch.full((cfg.INPUT.DEEPLAB2.MAX_THINGS,), -1)
        classes[:2] = 0
        samples.append(
            {
                "image": torch.full((3, *size), 100, dtype=torch.uint8),
                "sem_seg": semantic.long(),
                "sem_seg_weights": torch.ones(size),
                "thing_masks": things,
                "thing_classes": classes,
            }
        )
    return samples


class TrainingStep:
    """Called, it trains a new model by a step. The optimizer has its state before the first."""

    def __init__(self, cfg: CfgNode, samples: List[Dict[str, Tensor]]) -> None:
        self.cfg, self.samples = cfg, samples
        # Without build_model's move to a device, which fake tensors refuse.
        with torch.device(cfg.MODEL.DEVICE):
            self.model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg).train()
        self.optimizer = build_optimizer(cfg, self.model)
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        with self._autocast():
            losses = self.model(self.samples)
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer.step()

    def _autocast(self) -> ContextManager:
        if not self.cfg.SOLVER.AMP.ENABLED:
            return contextlib.nullcontext()
        dtype = getattr(torch, self.cfg.SOLVER.DEEPLAB2.AMP_DTYPE)
        return torch.autocast(self.model.device.type, dtype=dtype)
