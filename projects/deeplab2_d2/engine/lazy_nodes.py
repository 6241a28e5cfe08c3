"""
What LazyConfigs are made of beside classes: shapes, classes of datasets, and tuples.

``instantiate`` of Detectron2 hands lists on as OmegaConf's own, and looks for nodes neither in
dicts nor, of dataclasses, in lists: :func:`as_tuple`, :func:`tuple_of` and :func:`dict_of` are for
those.
"""

from typing import Any, Dict, Sequence, Tuple, Union

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from omegaconf import ListConfig

from ..backbones import EndpointBackbone
from ..backbones.build import build_backbone_by_name
from ..data.metadata import training_metadata
from ..layers import Norm
from ..structures import DatasetClasses, MemoryShape


def as_tuple(*, values: Sequence[Any]) -> Tuple[Any, ...]:
    """Lists of lists as tuples of tuples."""
    return tuple(
        as_tuple(values=value) if isinstance(value, (list, ListConfig)) else value
        for value in values
    )


def tuple_of(**named: Any) -> Tuple[Any, ...]:
    """The values, in their order; the names let a config change them."""
    return tuple(named.values())


def dict_of(**named: Any) -> Dict[str, Any]:
    """A dict whose nodes are built."""
    return named


def pairs_of(**named: int) -> Tuple[Tuple[str, int], ...]:
    """Names and values, as of features and the channels that they are projected to."""
    return tuple(named.items())


def backbone_shapes(
    *, name: str, output_stride: int, width_multiplier: float = 1.0
) -> Dict[str, ShapeSpec]:
    """The features that a named backbone returns, without building it."""
    return _on_meta(name, output_stride, width_multiplier).output_shape()


def endpoint_shapes(
    *, name: str, output_stride: int, names: Sequence[str], width_multiplier: float = 1.0
) -> Dict[str, ShapeSpec]:
    """Those of its endpoints that have these names."""
    backbone = _on_meta(name, output_stride, width_multiplier)
    return {key: shape for key, shape in backbone.endpoint_shapes.items() if key in names}


def backbone_memory(*, name: str, output_stride: int, width_multiplier: float = 1.0) -> MemoryShape:
    """The shape of a named backbone's memory."""
    return _on_meta(name, output_stride, width_multiplier).return_memory()


def with_shapes(
    *, shapes: Dict[str, ShapeSpec], **more: Union[str, ShapeSpec]
) -> Dict[str, ShapeSpec]:
    """Shapes and more of them; a text is another one's name."""
    given = {name: shapes[of] if isinstance(of, str) else of for name, of in more.items()}
    return {**shapes, **given}


def channels_of(*, shapes: Dict[str, ShapeSpec], feature: str) -> int:
    """Of a feature."""
    channels = shapes[feature].channels
    assert channels is not None
    return channels


def with_memory(*, backbone: EndpointBackbone) -> EndpointBackbone:
    """The backbone, which returns its memory beside its features."""
    backbone.return_memory()
    return backbone


def with_endpoints(*, backbone: EndpointBackbone, names: Sequence[str]) -> Backbone:
    """The backbone, which returns these endpoints, in the order of the network."""
    backbone.set_out_features([name for name in backbone.endpoint_shapes if name in names])
    return backbone


def classes_of(*, dataset: str) -> DatasetClasses:
    """What a registered dataset's metadata say."""
    return training_metadata([dataset])


def thing_ids(*, dataset: str) -> Tuple[int, ...]:
    """Contiguous ids of a registered dataset's things."""
    return classes_of(dataset=dataset).thing_ids


def stuff_ids(*, dataset: str) -> Tuple[int, ...]:
    """Contiguous ids of a registered dataset's stuff."""
    return classes_of(dataset=dataset).stuff_ids


def label_divisor(*, dataset: str) -> int:
    """Of a registered dataset."""
    return classes_of(dataset=dataset).label_divisor


def _on_meta(name: str, output_stride: int, width_multiplier: float) -> EndpointBackbone:
    with torch.device("meta"):
        return build_backbone_by_name(
            name,
            norm=Norm("BN"),
            output_stride=output_stride,
            width_multiplier=width_multiplier,
        )
