"""A Detectron2 backbone that is asked for endpoints by name."""

from typing import Dict, Sequence

from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor


class EndpointBackbone(Backbone):
    """
    A backbone whose subclasses name all their endpoints in order.

    Subclasses set ``endpoint_shapes`` (every endpoint's channels and stride) and implement
    :meth:`endpoints`; ``forward`` returns the features that were asked for.
    """

    endpoint_shapes: Dict[str, ShapeSpec]

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
        """Every endpoint of the network by name, for normalised (N, 3, H, W)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Dict[str, Tensor]:
        """
        Args:
            images: (N, 3, H, W), normalised; any H and W.

        Returns:
            Feature name to (N, channels, ceil(H / stride), ceil(W / stride)).
        """
        endpoints = self.endpoints(images)
        return {name: endpoints[name] for name in self._out_features}

    def output_shape(self) -> Dict[str, ShapeSpec]:
        return {name: self.endpoint_shapes[name] for name in self._out_features}
