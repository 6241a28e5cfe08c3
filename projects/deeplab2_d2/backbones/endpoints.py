"""A Detectron2 backbone that is asked for endpoints by name."""

from typing import Dict, Optional, Sequence, Union

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor

from ..structures import Encoded, MemoryShape


class EndpointBackbone(Backbone):
    """
    A backbone whose subclasses name all their endpoints in order: the contract of every family.

    Subclasses set ``endpoint_shapes`` (every endpoint's channels and stride) and implement
    :meth:`endpoints`; ``forward`` returns the features that were asked for.

    Attributes:
        memory_shape: of the memory path's outputs; None for a network without one.
    """

    endpoint_shapes: Dict[str, ShapeSpec]
    memory_shape: Optional[MemoryShape] = None

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
        raise NotImplementedError

    def forward(self, images: Tensor) -> Union[Dict[str, Tensor], Encoded]:
        """
        Args:
            images: (N, C, H, W), normalised; any H and W.

        Returns:
            Feature name to (N, channels, ceil(H / stride), ceil(W / stride)); with the memory,
            where :meth:`StackedDecoderNetwork.return_memory` has been called.
        """
        endpoints = self.endpoints(images)
        return {name: endpoints[name] for name in self._out_features}

    def output_shape(self) -> Dict[str, ShapeSpec]:
        return {name: self.endpoint_shapes[name] for name in self._out_features}
