"""Losses over all pixels, some at a time, so that what is made in between stays small."""

from typing import Iterator, Tuple

import torch
from torch import Tensor

FORMS = ("lean", "plain")

# Elements of one temporary tensor: 2 MiB in float32.
_CHUNK_ELEMENTS = 1 << 19


def pixel_chunks(maps: Tensor, other_channels: int = 0) -> Iterator[slice]:
    """
    Slices of the last axis, in order.

    Args:
        maps: (N, C, P).
        other_channels: of a second map that is made beside each chunk.
    """
    num_images, num_channels, num_pixels = maps.shape
    channels = max(num_channels, other_channels, 1)
    width = max(_CHUNK_ELEMENTS // (max(num_images, 1) * channels), 1)
    for start in range(0, num_pixels, width):
        yield slice(start, min(start + width, num_pixels))


def one_hot(ids: Tensor, num_ids: int, dtype: torch.dtype) -> Tensor:
    """(N, P) integers as (N, num_ids, P) of 0 and 1; a column of 0 where they are negative."""
    places = torch.arange(num_ids, device=ids.device)[:, None]
    return (ids[:, None] == places).to(dtype)


def add_at(maps: Tensor, channels: Tensor, values: Tensor) -> None:
    """
    Add to one channel of each pixel, in place.

    Args:
        maps: (N, C, P).
        channels: (N, P) int64 in [0, C).
        values: (N, P).
    """
    # A pixel has one place: nothing is added to it twice, in no order.
    maps.scatter_add_(1, channels[:, None], values[:, None])


def log_partition(logits: Tensor) -> Tuple[Tensor, Tensor]:
    """
    ``logsumexp`` over the channels, and the largest logit.

    Args:
        logits: (N, C, P) float, C at least 1.

    Returns:
        Twice (N, P), in float32 (float64 for float64).
    """
    shape, dtype = (logits.shape[0], logits.shape[2]), full_precision(logits.dtype)
    partition = logits.new_empty(shape, dtype=dtype)
    largest = torch.empty_like(partition)
    for chunk in pixel_chunks(logits):
        _, total, largest[:, chunk] = exponentials(logits[:, :, chunk])
        partition[:, chunk] = largest[:, chunk] + total.log()
    return partition, largest


def exponentials(logits: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """
    ``exp(logits - largest)`` (N, C, P), its sum and the largest logits, (N, P), over the channels.

    In float32 (float64 for float64).
    """
    logits = logits.to(full_precision(logits.dtype))
    largest = logits.amax(1)
    values = (logits - largest[:, None]).exp_()
    return values, values.sum(1), largest


def softmax(logits: Tensor, partition: Tensor) -> Tensor:
    """(N, C, P) softmax over the channels, whose ``logsumexp`` is known."""
    return (logits.to(partition.dtype) - partition[:, None]).exp_()


def full_precision(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_form(form: str) -> None:
    """Raise ValueError unless ``form`` is one of :data:`FORMS`."""
    if form not in FORMS:
        raise ValueError(f"form must be one of {FORMS}, got {form!r}")
