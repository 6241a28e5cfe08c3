"""
Inference on a GPU by CUDA graphs, for sizes that were seen before.

A graph has fixed shapes, so that there is one for each size of the network's input, and of the
outputs where post-processing is in it. The first batch of a size runs as always, the second is
captured, and those after it are replayed: sizes that come once cost nothing.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Sequence, cast

import torch
from torch import Tensor

from .cuda_graphs import CudaGraphs, Function
from .image_batch import ImageBatch
from .parts import Sample, StagedInference

if TYPE_CHECKING:
    from .segmenter import Segmenter

# Graphs that are kept, and sizes that are remembered as seen: those used last.
_MOST_GRAPHS = 8
_MOST_SIZES = 1024


class CapturedInference:
    """
    What a :class:`Segmenter` gives in evaluation, by graphs where there are some.

    The results are the same, in new memory. Graphs read the parameters where they lie: changed in
    place they count; where they have moved, graphs are made anew. A copied or saved model begins
    without any.
    """

    def __init__(self, make_capture: Callable[[], Any] = CudaGraphs):
        """
        Args:
            make_capture: see :class:`CudaGraphs`.
        """
        self._make_capture = make_capture
        self.clear()

    def __deepcopy__(self, memo: Any) -> "CapturedInference":
        return CapturedInference(self._make_capture)

    def __reduce__(self) -> Any:
        return CapturedInference, (self._make_capture,)

    def clear(self) -> None:
        """Forget all graphs and sizes."""
        self._capture = self._make_capture()
        self._graphs: "OrderedDict[Any, Function]" = OrderedDict()
        self._seen: "OrderedDict[Any, None]" = OrderedDict()
        # What the graphs read, and where it was.
        self._state: List[Tensor] = []
        self._places: List[int] = []

    def __call__(
        self, model: "Segmenter", images: ImageBatch, samples: Sequence[Sample]
    ) -> List[Dict[str, Any]]:
        """
        Args:
            model: in evaluation, without gradients; always the same one.
            images: the network's input, on a GPU.
            samples: of these images.

        Returns:
            ``model.postprocess(model.predict(images.tensor), images, samples)``.

        Raises:
            RuntimeError: if something in the model cannot be captured, such as a backbone of the
                user's that reads a value of the GPU.
        """
        if self._places != _places(self._state):
            self.clear()
        inference = cast(StagedInference, model.wanted_inference())
        is_mixed = torch.is_autocast_enabled("cuda")
        compute_type = torch.get_autocast_dtype("cuda") if is_mixed else images.tensor.dtype
        input_key = (tuple(images.tensor.shape), images.tensor.dtype, compute_type)
        if getattr(inference, "is_capturable", False):
            sizes = [images.output_size(sample, index) for index, sample in enumerate(samples)]
            key = (*input_key, tuple(images.image_sizes), tuple(sizes), inference)
            if self._was_seen(key):

                def compute(tensor: Tensor) -> Any:
                    batch = images._replace(tensor=tensor)
                    return inference.compute(model.predict(tensor), batch, samples)

                computed = self._replay(key, model, compute, images.tensor)
                return model.refine(inference.complete(computed), samples)
        if self._was_seen(input_key):
            prediction = self._replay(input_key, model, model.predict, images.tensor)
        else:
            prediction = model.predict(images.tensor)
        return model.postprocess(prediction, images, samples)

    def _was_seen(self, key: Any) -> bool:
        was_seen = key in self._seen
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > _MOST_SIZES:
            self._seen.popitem(last=False)
        return was_seen

    def _replay(self, key: Any, model: "Segmenter", function: Function, images: Tensor) -> Any:
        if not self._graphs:
            self._state = [*model.parameters(), *model.buffers()]
            self._places = _places(self._state)
        if key not in self._graphs:
            try:
                self._graphs[key] = self._capture(function, images)
            except RuntimeError as error:
                raise RuntimeError(
                    f"config key TEST.DEEPLAB2.CUDA_GRAPH must be False for this model: inference "
                    f"of images {tuple(images.shape)} cannot be captured in a CUDA graph: {error}"
                ) from error
            if len(self._graphs) > _MOST_GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        return self._graphs[key](images)


def _places(tensors: Sequence[Tensor]) -> List[int]:
    return [tensor.data_ptr() for tensor in tensors]
