"""Stop a training whose loss is NaN or infinite, with what is needed to see why."""

import os
from typing import Any, Dict, List, Mapping

import torch
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..checkpoint.saving import save_pth


class LossCopy:
    """
    Scalar losses on their way to the host.

    The copy is queued right behind the forward pass, so that :meth:`read` waits for that alone,
    however much of backward and optimizer is queued after it.
    """

    def __init__(self, losses: Mapping[str, Tensor]):
        """
        Args:
            losses: scalars by name, on one device.
        """
        self._names = list(losses)
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        self._event = None
        if values.is_cuda:
            host = torch.empty(values.shape, pin_memory=True)
            self._values = host.copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._values = values

    def read(self) -> Dict[str, Tensor]:
        """The losses as float32 scalars of the host, by name."""
        if self._event is not None:
            self._event.synchronize()
        return dict(zip(self._names, self._values.unbind()))


def stop_on_non_finite(
    losses: Mapping[str, Tensor],
    batch: List[Dict[str, Any]],
    model: nn.Module,
    iteration: int,
    dump_dir: str = "",
) -> None:
    """
    Raise if one of the losses is not a finite number.

    Args:
        losses: scalars of the host by name.
        batch: the samples that they were computed from.
        model: whose weights are dumped beside the batch.
        iteration: named in the error and in the dump's file name.
        dump_dir: "" = no dump. Otherwise ``non_finite_loss_iter<iteration>.pth`` (of a process
            beside the main one ``..._rank<rank>.pth``) is written there: ``{"iteration", "losses",
            "batch", "model"}`` for ``torch.load``.

    Raises:
        FloatingPointError: naming the iteration, the terms, the image files and the dump.
    """
    by_name = {name: float(loss) for name, loss in losses.items()}
    culprits = [name for name, loss in losses.items() if not bool(torch.isfinite(loss))]
    if not culprits:
        return
    files = [str(sample.get("file_name", "?")) for sample in batch]
    message = (
        f"loss became infinite or NaN at iteration {iteration}: {', '.join(culprits)} "
        f"of {by_name}; images of the batch: {', '.join(files)}"
    )
    if dump_dir:
        rank = f"_rank{comm.get_rank()}" if comm.get_rank() else ""
        path = os.path.join(dump_dir, f"non_finite_loss_iter{iteration}{rank}.pth")
        network = model.module if isinstance(model, DistributedDataParallel) else model
        state = {
            "iteration": iteration,
            "losses": by_name,
            "batch": batch,
            "model": network.state_dict(),
        }
        save_pth(path, state)
        message += f"; batch and weights written to {path}"
    raise FloatingPointError(message)
