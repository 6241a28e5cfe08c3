"""Stop a training whose loss is NaN or infinite, with what is needed to see why."""

import os
from typing import Any, Dict, List, Mapping

import torch
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..checkpoint.atomic import atomic_path


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
        losses: scalars by name.
        batch: the samples that they were computed from.
        model: whose weights are dumped beside the batch.
        iteration: named in the error and in the dump's file name.
        dump_dir: "" = no dump. Otherwise ``non_finite_loss_iter<iteration>.pth`` (of a process
            beside the main one ``..._rank<rank>.pth``) is written there: ``{"iteration", "losses",
            "batch", "model"}`` for ``torch.load``.

    Raises:
        FloatingPointError: naming the iteration, the terms, the image files and the dump.
    """
    values = torch.stack([loss.detach().float() for loss in losses.values()])
    if bool(torch.isfinite(values).all()):
        return
    by_name = dict(zip(losses, values.tolist()))
    culprits = [name for name, loss in losses.items() if not bool(torch.isfinite(loss))]
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
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
        message += f"; batch and weights written to {path}"
    raise FloatingPointError(message)
