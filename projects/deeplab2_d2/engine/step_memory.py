"""What a training step takes of memory, from its first one."""

import itertools
from dataclasses import dataclass
from typing import Callable, Iterable, List, Tuple

import torch
from torch import Tensor, nn

from .live_memory import LiveMemory


@dataclass(frozen=True)
class StepMemory:
    """
    Bytes.

    Attributes:
        device: where.
        weights: parameters and buffers.
        gradients: of the parameters that learn.
        optimizer: its state.
        peak: most at a time in a later step, when the optimizer has its state all the time.
    """

    device: torch.device
    weights: int
    gradients: int
    optimizer: int
    peak: int

    def rows(self) -> List[Tuple[str, str]]:
        """For a table."""
        rest = max(0, self.peak - self.weights - self.gradients - self.optimizer)
        how = "measured" if self.device.type == "cuda" else "counted from the tensors"
        parts = f"weights {megabytes(self.weights)}, gradients {megabytes(self.gradients)}, "
        parts += f"optimizer {megabytes(self.optimizer)}, activations about {megabytes(rest)}"
        text = f"{megabytes(self.peak)} at most, {how} on {self.device}"
        if self.device.type == "cuda":
            total = torch.cuda.get_device_properties(self.device).total_memory
            text += f", which has {megabytes(total)}"
        return [("memory", text), ("", parts)]


def watch_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, step: Callable[[], None]
) -> StepMemory:
    """
    The memory of a step: measured on a GPU, elsewhere counted from the tensors that are alive.

    In a first step the optimizer makes its state when the activations are gone; in later ones both
    are there at a time.

    Args:
        model, optimizer: of the step, the optimizer with a state or without one.
        step: takes it.
    """
    device = next(model.parameters()).device
    held = list(itertools.chain(model.parameters(), model.buffers()))
    before = _bytes_of(_state_of(optimizer))
    at_optimizer: List[int] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

        def remember(*_: object) -> None:
            at_optimizer.append(torch.cuda.max_memory_allocated(device))

        handle = optimizer.register_step_pre_hook(remember)
        step()
        peak = torch.cuda.max_memory_allocated(device)
    else:
        with LiveMemory() as memory:
            memory.hold(itertools.chain(held, _state_of(optimizer)))

            def remember_count(*_: object) -> None:
                at_optimizer.append(memory.peak)

            handle = optimizer.register_step_pre_hook(remember_count)
            step()
            peak = memory.peak
    handle.remove()
    state = _bytes_of(_state_of(optimizer))
    later = max([peak, *(value + state - before for value in at_optimizer)])
    return StepMemory(
        device=device,
        weights=_bytes_of(held),
        gradients=_bytes_of(p.grad for p in model.parameters() if p.grad is not None),
        optimizer=state,
        peak=later,
    )


def _state_of(optimizer: torch.optim.Optimizer) -> List[Tensor]:
    states = (state.values() for state in optimizer.state.values())
    return [value for value in itertools.chain(*states) if isinstance(value, Tensor)]


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def megabytes(count: int) -> str:
    """Bytes for readers: "153 MB", "2.1 GB"."""
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.3g} MB"
