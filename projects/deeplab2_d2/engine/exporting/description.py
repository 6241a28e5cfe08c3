"""What an exported file says of itself."""

import json
from typing import Any, Dict

from detectron2.config import CfgNode

from ... import __version__
from ...models import metadata_from_config
from ...ops import VOID_PANOPTIC_LABEL
from .image_model import ImageModel


def describe(cfg: CfgNode, model: ImageModel) -> Dict[str, Any]:
    """
    What whoever runs a file has to know, as JSON holds it.

    Returns:
        ``image`` (what goes in), ``outputs`` (name to what it is), ``classes`` (names by class id),
        ``thing_ids``, ``label_divisor``, ``void_label``, ``config`` (its YAML), ``model`` and
        ``version``.
    """
    classes = metadata_from_config(cfg, needs_things=False)
    labels = {
        "panoptic_map": "(N, H, W) int32, class * label_divisor + number (0 for stuff)",
        "semantic_map": "(N, H, W) int32, class",
    }
    raw = "raw map, kind {}, at stride {} of the image padded to 1 + a multiple of {}"
    outputs = {
        name: labels.get(name) or raw.format(model.kinds[name], model.map_stride, model.stride)
        for name in model.names
    }
    return {
        "image": f"(N, {model.num_channels}, H, W) float32, RGB, 0 to 255",
        "outputs": outputs,
        "classes": list(classes.names),
        "thing_ids": list(classes.thing_ids),
        "label_divisor": classes.label_divisor,
        "void_label": VOID_PANOPTIC_LABEL,
        "model": cfg.MODEL.META_ARCHITECTURE,
        "config": cfg.dump(),
        "version": __version__,
    }


def to_text(description: Dict[str, Any]) -> str:
    """As JSON, readable."""
    return json.dumps(description, indent=1)
