"""From a raw image to maps, as one module for exporters."""

from typing import Any, Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor, nn

from ...layers import fast_layout
from ...models import Segmenter
from ...records import GraphInference, find_record
from ..config_error import ConfigError

_LARGEST_STRIDE = 64


class ImageModel(nn.Module):
    """
    What the model does in evaluation with images of one size: normalise, pad, predict, label.

    Attributes:
        names: of the outputs, in their order.
        map_stride: pixels of the image per pixel of the raw maps; 0 where that is no power of two.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, model: Segmenter, *, is_bgr: bool, with_postprocessing: bool):
        """
        Args:
            model: in evaluation mode, on the CPU.
            is_bgr: the network's channels are blue, green, red; images are RGB anyway.
            with_postprocessing: outputs are labels at the size of the images, not raw maps.

        Raises:
            ConfigError: if the model cannot be exported so.
        """
        super().__init__()
        _check_model(model)
        self.network = model.network
        # Not as a module: its parameters are the network's.
        self._segmenter = (model,)
        self.stride = model.output_stride
        self.pad_to = model.pad_to
        self.is_bgr = is_bgr
        self.register_buffer("pixel_mean", model.pixel_mean.clone())
        self.register_buffer("pixel_std", model.pixel_std.clone())
        self.kinds = dict(model.head.kinds)  # type: ignore[arg-type]
        self.map_stride, maps = self._probe()
        self.graph: Optional[GraphInference] = None
        if with_postprocessing:
            self.graph = _build_graph(model, self.map_stride)
        self.names = self._output_names(maps)

    @classmethod
    def from_config(
        cls, cfg: CfgNode, model: nn.Module, *, with_postprocessing: bool
    ) -> "ImageModel":
        """
        Args:
            cfg: the model's config.
            model, with_postprocessing: see the constructor.
        """
        if not isinstance(model, Segmenter):
            raise ConfigError(
                "config key MODEL.META_ARCHITECTURE must be one of this package's whose network "
                "gives maps, not boxes, to be exported, got "
                f"{cfg.MODEL.META_ARCHITECTURE!r}"
            )
        is_bgr = cfg.INPUT.FORMAT == "BGR"
        return cls(model, is_bgr=is_bgr, with_postprocessing=with_postprocessing)

    @property
    def num_channels(self) -> int:
        """Of the image."""
        return self.pixel_mean.shape[0]

    def panoptic_labels(self, images: Tensor) -> Tensor:
        """``panoptic_map`` as the model itself gives it, with the package's operators."""
        model = self._segmenter[0]
        pixels = images.flip(1) if self.is_bgr else images
        batch = model.batch([{"image": image} for image in pixels])
        maps = model.predict(batch.tensor)
        inference = model.inference.with_outputs("panoptic_seg")
        outputs = inference(maps, batch, [{} for _ in pixels])
        return torch.stack([output["panoptic_seg"][0] - 1 for output in outputs])

    def forward(self, image: Tensor) -> Tuple[Tensor, ...]:
        """
        Args:
            image: (N, 3, H, W) float32, RGB, 0 to 255; H and W at least 2.

        Returns:
            The outputs of ``names``.
        """
        prediction = self.network(fast_layout(self.prepare(image)))
        if self.graph is not None:
            size = (image.shape[2], image.shape[3])
            prediction = self.graph(prediction, self.map_stride, size)
        return tuple(prediction[name] for name in self.names)

    def prepare(self, image: Tensor) -> Tensor:
        """The network's input: normalised, then padded below and to the right."""
        if self.is_bgr:
            image = image.flip(1)
        image = (image - self.pixel_mean) / self.pixel_std
        below = self._padding(image.shape[2], self.pad_to[0])
        right = self._padding(image.shape[3], self.pad_to[1])
        return F.pad(image, (0, right, 0, below))

    def _padding(self, side: Any, least: int) -> Any:
        """Pixels from a side, perhaps a symbol, to the next 1 + multiple of the stride."""
        if isinstance(side, Tensor):  # of torch.jit.trace
            longer = side.clamp(min=least)
        else:
            longer = torch.sym_max(side, least) if least else side
        return (longer + self.stride - 2) // self.stride * self.stride + 1 - side

    def _probe(self) -> Tuple[int, Dict[str, Tensor]]:
        """The stride of the raw maps, and small ones."""
        side = 4 * self.stride + 1
        with torch.no_grad():
            maps = self.network(torch.zeros(1, self.num_channels, side, side))
        sides = {maps[name].shape[-1] for name, kind in self.kinds.items() if _is_map(maps, name)}
        if len(sides) != 1:
            return 0, maps
        stride, rest = divmod(side - 1, max(sides.pop() - 1, 1))
        is_power = stride in [2**k for k in range(_LARGEST_STRIDE.bit_length())]
        return (stride if is_power and not rest else 0), maps

    def _output_names(self, maps: Dict[str, Tensor]) -> List[str]:
        if self.graph is None:
            return [name for name in maps if name in self.kinds]
        size = (self.stride, self.stride)
        return list(self.graph(maps, self.map_stride, size))


def _is_map(maps: Dict[str, Tensor], name: str) -> bool:
    return name in maps and maps[name].dim() == 4


def _check_model(model: Segmenter) -> None:
    backbone = model.backbone
    divisor = int(getattr(backbone, "size_divisibility", 0))
    if divisor > 1 or getattr(backbone, "padding_constraints", {}):
        raise ConfigError(
            "config key MODEL.BACKBONE.NAME must be a backbone that takes sizes of 1 + a multiple "
            f"of the output stride to be exported, got {type(backbone).__name__}"
        )


def _build_graph(model: Segmenter, map_stride: int) -> GraphInference:
    record = find_record(model)
    if record is None or record.build_graph is None:
        raise ConfigError(
            "config key MODEL.META_ARCHITECTURE: the post-processing of "
            f"{type(model).__name__} cannot be exported; without --with-postprocessing its network "
            "can"
        )
    if model.crf is not None:
        raise ConfigError(
            "config key MODEL.DEEPLAB2.CRF must be off to export post-processing: it has no graph"
        )
    if not map_stride:
        raise ConfigError(
            f"the maps of {type(model).__name__} must have a stride that is a power of two to "
            "export post-processing"
        )
    try:
        return record.build_graph(model)
    except ValueError as error:
        raise ConfigError(str(error)) from error
