"""
The attention of the memory path, recorded while a network runs.

Letters: N images, H heads, M memory slots, (h, w) the pixels of a layer.
"""

from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from torch import Tensor, nn

from .dual_path_transformer import DualPathTransformerLayer
from .pixel_assignment import PixelAssignment


class MemoryAttention(NamedTuple):
    """
    What each memory slot of a layer attends to, after the softmax (or sigmoid).

    Attributes:
        to_pixels: (N, H, M, h, w), M2P. With softmax, a slot's weights of both kinds sum to one. A
            step of k-means has one head: 1 for the pixels assigned to a slot, 0 for others.
        to_memory: (N, H, M, M), M2M, the attending slot first; None without M2M.
    """

    to_pixels: Tensor
    to_memory: Optional[Tensor]


def has_memory_attention(network: nn.Module) -> bool:
    """Whether a network has layers that :func:`record_memory_attention` records."""
    kinds = (DualPathTransformerLayer, PixelAssignment)
    return any(isinstance(part, kinds) for part in network.modules())


@contextmanager
def record_memory_attention(network: nn.Module) -> Iterator[Dict[str, MemoryAttention]]:
    """
    Record the memory's attention in every dual-path layer, and in every layer of k-means, that runs
    within the block.

    Forward hooks, which are gone after the block: values, parameters and traces of the network are
    those of one that was never recorded. The network must run eagerly while it is recorded.

    Args:
        network: holds the layers at any depth.

    Yields:
        Module name of each layer to the attention of its last run, without gradient; in the order
        in which the layers first ran. Empty if the network has no such layer.
    """
    recorded: Dict[str, MemoryAttention] = {}
    handles: List[Any] = []
    for name, layer in network.named_modules():
        if isinstance(layer, DualPathTransformerLayer):
            handles += _add_hooks(name, layer, recorded)
        elif isinstance(layer, PixelAssignment):
            handles.append(_add_assignment_hook(name.rpartition(".")[0], layer, recorded))
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def _add_hooks(
    name: str, layer: DualPathTransformerLayer, recorded: Dict[str, MemoryAttention]
) -> List[Any]:
    latest: List[Tensor] = []

    def keep_weights(module: nn.Module, inputs: Any, weights_NHML: Tensor) -> None:
        latest[:] = [weights_NHML.detach()]

    def split_weights(module: nn.Module, inputs: Any, outputs: Any) -> None:
        height, width = inputs[0].shape[-2:]
        weights_NHML = latest.pop()
        pixels = weights_NHML[..., : height * width].unflatten(-1, (height, width))
        memory = weights_NHML[..., height * width :]
        recorded[name] = MemoryAttention(pixels, memory if memory.shape[-1] else None)

    return [
        layer.memory_attention.attention_activation.register_forward_hook(keep_weights),
        layer.register_forward_hook(split_weights),
    ]


def _add_assignment_hook(
    name: str, assignment: PixelAssignment, recorded: Dict[str, MemoryAttention]
) -> Any:
    def keep(module: nn.Module, inputs: Any, owners_NPM: Tensor) -> None:
        pixels = owners_NPM.transpose(1, 2).unflatten(2, inputs[0].shape[-2:])
        recorded[name] = MemoryAttention(pixels[:, None], None)

    return assignment.register_forward_hook(keep)
