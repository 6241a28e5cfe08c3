"""A function of one tensor as a CUDA graph: its kernels are launched at once."""

from typing import Any, Callable

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

# A tensor to a tree (lists, dicts, tuples) of tensors and of what is the same at every call.
Function = Callable[[Tensor], Any]


class CudaGraphs:
    """
    Makes graphs whose intermediate results share memory.

    For that they must never run side by side: each replay is whole, its results are copied, on the
    stream of the caller.
    """

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, function: Function, example: Tensor) -> Function:
        """
        Args:
            function: without gradients; it must have run once on this input's shape.
            example: an input, on a GPU.

        Returns:
            The same function, for inputs of this shape and type.

        Raises:
            RuntimeError: if the function does what a graph cannot hold: wait for the GPU, copy from
                memory of the CPU that is not pinned.
        """
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        # Memory that is written outside of inference mode, too.
        with torch.cuda.device(example.device), torch.inference_mode(False), torch.no_grad():
            place = example.clone()
            graph = torch.cuda.CUDAGraph()
            stream = torch.cuda.Stream()
            with _autocast_without_cache():
                # Libraries make what they keep for a stream.
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    function(place)
                torch.cuda.current_stream().wait_stream(stream)
                # Other threads, such as an evaluator's, go on with their copies meanwhile.
                with torch.cuda.graph(
                    graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"
                ):
                    results = function(place)

        def replay(tensor: Tensor) -> Any:
            with torch.cuda.device(place.device), torch.no_grad():
                place.copy_(tensor)
                graph.replay()
                return pytree.tree_map_only(Tensor, Tensor.clone, results)

        return replay


def _autocast_without_cache() -> Any:
    """Weights that autocast would keep would lie in the graph's memory."""
    is_enabled = torch.is_autocast_enabled("cuda")
    dtype = torch.get_autocast_dtype("cuda")
    return torch.autocast("cuda", dtype=dtype, enabled=is_enabled, cache_enabled=False)
