"""One optimizer step: data, losses in mixed precision, accumulation, clipping, the guard."""

import contextlib
import time
from typing import Any, Callable, ContextManager, Dict, Iterable, Iterator, List, Optional, Tuple

import torch
from detectron2.engine import SimpleTrainer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .non_finite import LossCopy, stop_on_non_finite


class TrainingStep(SimpleTrainer):
    """
    Detectron2's ``SimpleTrainer`` with accumulation, autocast, clipping and exact resumption.

    Each step draws ``accumulation_steps`` batches and averages their losses. Randomness inside the
    model (dropout, stochastic depth) is seeded by (seed, iteration, process), so that a resumed run
    continues as the uninterrupted one would.

    A loss that is not finite ends the run. On a CPU that is seen before backward. On a GPU nothing
    waits between forward and backward: the losses are read when the whole step is queued, so the
    weights that are dumped are those after it; no checkpoint is written of them.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[List[Dict[str, Any]]],
        optimizer: torch.optim.Optimizer,
        *,
        accumulation_steps: int = 1,
        amp_dtype: Optional[torch.dtype] = None,
        clip_gradients: Optional[Callable[[nn.Module], Any]] = None,
        seed: Optional[int] = None,
        dump_dir: str = "",
    ):
        """
        Args:
            model: in training mode, returns a dict of scalar losses.
            batches: endless; iterated lazily, from the first step on.
            optimizer: steps once per call of :meth:`run_step`.
            accumulation_steps: batches per optimizer step, at least 1.
            amp_dtype: autocast to it (``torch.bfloat16``, or ``torch.float16`` with a scaler);
                None = float32.
            clip_gradients: called with the model when its gradients are complete and unscaled.
            seed: of the model's own randomness; None leaves the global generator alone.
            dump_dir: where batch and weights of a non-finite loss are written; "" = nowhere.

        Raises:
            ValueError: if ``accumulation_steps`` is below 1.
        """
        super().__init__(model, batches, optimizer)
        if accumulation_steps < 1:
            raise ValueError(f"accumulation_steps must be at least 1, got {accumulation_steps}")
        self.accumulation_steps = accumulation_steps
        self.amp_dtype = amp_dtype
        self.clip_gradients = clip_gradients
        self.seed = seed
        self.dump_dir = dump_dir
        self.device = next(model.parameters()).device
        # Whether a step waits for its first batch, before it has changed anything.
        self.is_fetching = False
        # Whether the losses are read after the step; see the class.
        self.is_deferred = self.device.type == "cuda"
        scales = amp_dtype == torch.float16
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=scales)

    def run_step(self) -> None:
        if not self.model.training:
            raise RuntimeError("the model was put into evaluation mode during training")
        self.optimizer.zero_grad()
        queued: List[Tuple[LossCopy, List[Dict[str, Any]]]] = []
        data_time = 0.0
        for index in range(self.accumulation_steps):
            start = time.perf_counter()
            self.is_fetching = index == 0
            batch = next(self._data_loader_iter)
            self.is_fetching = False
            data_time += time.perf_counter() - start
            self._seed_forward(index)
            is_last = index + 1 == self.accumulation_steps
            with self._gradient_sync(is_last):
                losses = self._losses(batch)
                queued.append((LossCopy(losses), batch))
                if not self.is_deferred:
                    self._check(*queued[-1])
                total = torch.stack(list(losses.values())).sum() / self.accumulation_steps
                self.grad_scaler.scale(total).backward()
        if self.clip_gradients is not None:
            self.grad_scaler.unscale_(self.optimizer)
            self.clip_gradients(self.model)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        totals: Dict[str, Tensor] = {}
        for copy, batch in queued:
            for name, loss in self._check(copy, batch).items():
                totals[name] = totals.get(name, 0.0) + loss / self.accumulation_steps
        self._write_metrics(totals, data_time)

    def end_data(self) -> None:
        """Let the processes that load data end now, not when Python waits for them at its end."""
        self._data_loader_iter: Iterator[Any] = iter(())

    def _check(self, copy: LossCopy, batch: List[Dict[str, Any]]) -> Dict[str, Tensor]:
        losses = copy.read()
        stop_on_non_finite(losses, batch, self.model, self.iter, self.dump_dir)
        return losses

    def _losses(self, batch: List[Dict[str, Any]]) -> Dict[str, Tensor]:
        if self.amp_dtype is None:
            return self.model(batch)
        with torch.autocast(self.device.type, dtype=self.amp_dtype):
            return self.model(batch)

    def _gradient_sync(self, is_last: bool) -> ContextManager:
        if is_last or not isinstance(self.model, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.model.no_sync()

    def _seed_forward(self, index: int) -> None:
        """After the batch is drawn: a loader that has just been made draws a number of its own."""
        if self.seed is None:
            return
        batch_number = self.iter * self.accumulation_steps + index
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        # Distinct for every (seed, batch, process) that occurs in practice.
        torch.manual_seed((self.seed * 1_000_003 + batch_number) * 65_537 + rank)

    def state_dict(self) -> Dict[str, Any]:
        state = super().state_dict()
        if self.grad_scaler.is_enabled():
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if self.grad_scaler.is_enabled() and "grad_scaler" in state_dict:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
