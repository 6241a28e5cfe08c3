"""A Detectron2 backbone that is asked for endpoints by name, and for its memory."""

from typing import Dict, Optional, Sequence, Tuple, Union

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor, nn

from ..structures import Encoded, Memory, MemoryShape


class EndpointBackbone(Backbone):
    """
    A backbone whose subclasses name all their endpoints in order: the contract of every family.

    Subclasses set ``endpoint_shapes`` (every endpoint's channels and stride) and implement
    :meth:`endpoints`, or with a memory :meth:`endpoints_and_memory`; ``forward`` returns the
    features that were asked for.

    Attributes:
        memory_shape: of the memory path's outputs; None for a network without one.
        stage_parts: of a network whose ``res1``, ``res2``, ... are not computed one from another,
            with what the names of the weights of each stage begin, the stem first.
        new_parts: words in the names of parameters that no pretraining has, see :func:`new_names`.
        pooled_endpoint: what a classifier of images averages; "": ``backbone_output`` where there
            is one, else ``res5``.
        pooled_norm_epsilon: of the layer norm that the classifier has after that average; 0: none.
    """

    endpoint_shapes: Dict[str, ShapeSpec]
    memory_shape: Optional[MemoryShape] = None
    stage_parts: Tuple[Tuple[str, ...], ...] = ()
    new_parts: Tuple[str, ...] = ()
    pooled_endpoint: str = ""
    pooled_norm_epsilon: float = 0.0
    _returns_memory = False
    _frozen_norms: Tuple[nn.Module, ...] = ()

    def set_out_features(self, out_features: Sequence[str]) -> None:
        """
        Choose what ``forward`` returns.

        Raises:
            ValueError: for a name that the backbone has not.
        """
        unknown = [name for name in out_features if name not in self.endpoint_shapes]
        if unknown:
            raise ValueError(f"out_features must be of {list(self.endpoint_shapes)}, got {unknown}")
        self._out_features = list(out_features)

    def endpoints(self, images: Tensor) -> Dict[str, Tensor]:
        """Every endpoint of the network by name, for normalised (N, C, H, W)."""
        return self.endpoints_and_memory(images)[0]

    def endpoints_and_memory(self, images: Tensor) -> Tuple[Dict[str, Tensor], Optional[Memory]]:
        """Every endpoint by name, and the memory's outputs, None without a memory path."""
        raise NotImplementedError

    def return_memory(self) -> MemoryShape:
        """
        Let ``forward`` return :class:`Encoded`, the features and the memory.

        Returns:
            The shape of the memory.

        Raises:
            ValueError: if the network has none.
        """
        if self.memory_shape is None:
            raise ValueError("the backbone must have a memory path, such as max_deeplab_s has")
        self._returns_memory = True
        return self.memory_shape

    def freeze_norms(self, norms: Sequence[nn.Module]) -> None:
        """Keep batch norms of this backbone in evaluation mode, also while training."""
        self._frozen_norms = tuple(norms)
        self.train(self.training)

    def train(self, mode: bool = True) -> "EndpointBackbone":
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self

    def forward(self, images: Tensor) -> Union[Dict[str, Tensor], Encoded]:
        """
        Args:
            images: (N, C, H, W), normalised; any H and W.

        Returns:
            Feature name to (N, channels, ceil(H / stride), ceil(W / stride)); with the memory,
            where :meth:`return_memory` has been called.
        """
        if not self._returns_memory:
            endpoints = self.endpoints(images)
            return {name: endpoints[name] for name in self._out_features}
        endpoints, memory = self.endpoints_and_memory(images)
        assert memory is not None
        return Encoded({name: endpoints[name] for name in self._out_features}, memory)

    def output_shape(self) -> Dict[str, ShapeSpec]:
        return {name: self.endpoint_shapes[name] for name in self._out_features}
