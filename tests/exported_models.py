"""Models with lively outputs, and why a label of an exported file differs from the model's."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Sequence

import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from torch import Tensor, nn

from deeplab2_d2.engine import load_config
from deeplab2_d2.engine.exporting import ImageModel
from deeplab2_d2.engine.exporting.comparison import smooth_images
from deeplab2_d2.ops import find_centers
from deeplab2_d2.postprocessing import Frames, panoptic_from_mask_slots

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
NARROW = {
    "Panoptic-DeepLab": "Shapes-PanopticSegmentation/"
    "panoptic_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml",
    "MaX-DeepLab": "Shapes-PanopticSegmentation/max_deeplab_tiny_os16_poly_bs8_crop_129_161.yaml",
    "kMaX-DeepLab": "Shapes-PanopticSegmentation/kmax_deeplab_tiny_os32_poly_bs8_crop_129_161.yaml",
    "DeepLab v3+": "Shapes-SemanticSegmentation/"
    "deeplab_v3plus_X_41_narrow_os16_poly_bs8_crop_129_161.yaml",
}
# As its configs for real images say, with both weights of the order.
NARROW_OPTIONS = {
    "kMaX-DeepLab": [
        *("MODEL.DEEPLAB2.POSTPROCESSING.MASK_MODE", "maskwise"),
        *("MODEL.DEEPLAB2.POSTPROCESSING.MASKWISE_RANK_WEIGHTS", "[1.0, 1.0]"),
    ]
}
_OPTIONS = ["MODEL.DEVICE", "cpu"]


def narrow_model(title: str) -> Any:
    """:func:`lively_model` of NARROW."""
    return lively_model(NARROW[title], NARROW_OPTIONS.get(title, ()))


def lively_model(config: str, options: Sequence[str] = (), size: int = 97) -> Any:
    """
    A model with random weights whose labels are of many kinds.

    Its norms have the statistics of random images of this size, its last layers large weights, its
    post-processing low thresholds.
    """
    torch.manual_seed(0)
    cfg = load_config(str(CONFIGS / config), [*_OPTIONS, *options])
    model: Any = build_model(cfg)
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
            if not name.endswith("mask_batch_norm"):
                nn.init.uniform_(module.weight, 0.5, 1.0)
        if name.endswith("final_conv"):
            nn.init.normal_(module.weight, std=1.0 / math.sqrt(module.in_channels))
    for name, parameter in model.named_parameters():
        if name.endswith("memory_feature"):
            nn.init.normal_(parameter)
    is_pasted = getattr(getattr(model.inference, "options", None), "mode", "") == "maskwise"
    # Clusters are chosen by the norms' output: more images, so that it is of one size for others.
    shape = (8 if is_pasted else 2, 3, size, size)
    images = smooth_images(shape, torch.Generator().manual_seed(7))
    with torch.no_grad():
        model.train()
        model.network(model.batch([{"image": image} for image in images]).tensor)
    model.eval().requires_grad_(False)
    _lower_thresholds(model)
    if is_pasted:
        _spread_slots(model)
    return model


def _lower_thresholds(model: Any) -> None:
    inference = model.inference
    if hasattr(inference, "center_threshold"):
        model.inference = replace(inference, center_threshold=0.5, stuff_area_limit=30)
    elif hasattr(inference, "options"):
        options = replace(
            inference.options,
            class_confidence_threshold=0.2,
            mask_confidence_threshold=0.4 if inference.options.mode == "maskwise" else 0.1,
            thing_class_threshold=0.3,
            stuff_class_threshold=0.2,
            thing_area_limit=10,
            stuff_area_limit=30,
        )
        model.inference = replace(inference, options=options)
        model.head.void_bias.zero_()
        nn.init.normal_(model.head.transformer_class_head.weight, std=2.0)
        model.head.pixel_space_mask_batch_norm.weight.fill_(1.0)


def _spread_slots(model: Any) -> None:
    """Slots of many classes, and masks that overlap, in images that the norms have not seen."""
    network, head = model.network, model.head
    images = smooth_images((2, 3, 113, 129), torch.Generator().manual_seed(8))
    batch = model.batch([{"image": image} for image in images]).tensor
    with torch.no_grad():
        maps = network(batch)
        scale = 3.0 / float(maps["class_logits"].std(dim=1).mean())
        head.transformer_class_head.weight.mul_(scale)
        head.transformer_class_head.bias.sub_(maps["class_logits"].mean(dim=(0, 1)) * scale)
        norm = head.pixel_space_mask_batch_norm
        norm.weight.mul_(10.0 / float(maps["mask_logits"].std()))


def near_ties(
    model: ImageModel, maps: Dict[str, Tensor], found: Dict[str, Tensor], size: Sequence[int]
) -> Tensor:
    """
    Where rounding of the raw maps may decide labels otherwise: (N, H, W) bool.

    Two values that differ by at most ``e`` each change their order only if they are within ``2 e``.
    Of masks that are pasted, one such decision may be about a whole mask: there it is where the
    model's own post-processing gives other labels for the file's maps than for its own.

    Args:
        model: whose network made the maps.
        maps: raw, of the eager model.
        found: raw, of its file.
        size: (H, W) of the images.
    """
    errors = {name: float((found[name] - maps[name]).abs().max()) for name in maps}
    inference = model._segmenter[0].inference
    if "mask_logits" in maps and inference.options.mode == "maskwise":
        return _changed_masks(inference, maps, found, model.map_stride, size)
    if "mask_logits" in maps:
        return _near_slots(inference, maps, errors, model.map_stride, size)
    semantic = _enlarge(maps["semantic_logits"], model.map_stride, size)
    near = _top_gap(semantic) <= _bound(errors["semantic_logits"], semantic)
    if "center_offsets" in maps:
        near |= _near_centers(inference, maps, errors, model.map_stride, size)
    return near


def _near_centers(
    inference: Any, maps: Dict[str, Tensor], errors: Dict[str, float], stride: int, size: Any
) -> Tensor:
    """Pixels whose two nearest centers are as near but for the error of the offsets."""
    heatmap = _enlarge(maps["center_heatmap"], stride, size)[:, 0]
    centers, _, counts = find_centers(
        heatmap,
        tuple(size),
        (1.0, 1.0),
        threshold=inference.center_threshold,
        nms_kernel=inference.nms_kernel,
        top_k=inference.top_k_centers,
    )
    offsets = _enlarge(maps["center_offsets"] * stride, stride, size)
    grid = torch.stack(torch.meshgrid(*(torch.arange(n).float() for n in size), indexing="ij"))
    parts: List[Tensor] = []
    for target, points, count in zip(grid + offsets, centers.float(), counts.tolist()):
        if count < 2:
            parts.append(torch.zeros(tuple(size), dtype=torch.bool))
            continue
        flat = target.flatten(1).t()
        gaps = [_top_gap(-torch.cdist(part, points[:count])) for part in flat.split(2**16)]
        gap = torch.cat(gaps).view(*size)
        bound = 2.0 * math.sqrt(2.0) * stride * errors["center_offsets"] + 1e-3
        parts.append(gap <= bound)
    return torch.stack(parts)


def _near_slots(
    inference: Any, maps: Dict[str, Tensor], errors: Dict[str, float], stride: int, size: Any
) -> Tensor:
    options, error = inference.options, errors["mask_logits"]
    masks = _enlarge(maps["mask_logits"], stride, size)
    probability = maps["class_logits"].softmax(2)[..., :-1].amax(2)
    is_confident = probability >= options.class_confidence_threshold
    confident = masks.masked_fill(~is_confident[:, :, None, None], float("-inf"))
    bound = _bound(error, masks)
    near = (_top_gap(masks) <= bound) | (_top_gap(confident) <= bound)
    quotient = confident.softmax(1).amax(1)
    return near | ((quotient - options.mask_confidence_threshold).abs() <= 4.0 * error + 1e-6)


def _changed_masks(
    inference: Any, maps: Dict[str, Tensor], found: Dict[str, Tensor], stride: int, size: Any
) -> Tensor:
    """Other labels of other maps, or a probability that is the threshold but for rounding."""
    whole = tuple((side - 1) * stride + 1 for side in maps["mask_logits"].shape[-2:])
    first, second = (
        panoptic_from_mask_slots(
            some["mask_logits"],
            some["class_logits"],
            Frames(whole, tuple(size), tuple(size)),
            thing_ids=inference.thing_ids,
            label_divisor=inference.label_divisor,
            options=inference.options,
        )
        for some in (maps, found)
    )
    is_changed = first.panoptic_map != second.panoptic_map
    is_changed |= first.semantic_map != second.semantic_map
    probability = _enlarge(found["mask_logits"], stride, size).softmax(1)
    distance = (probability - inference.options.mask_confidence_threshold).abs().amin(1)
    return is_changed | (distance <= 1e-6)


def _enlarge(maps: Tensor, stride: int, size: Sequence[int]) -> Tensor:
    whole = [(side - 1) * stride + 1 for side in maps.shape[-2:]]
    enlarged = F.interpolate(maps, whole, mode="bilinear", align_corners=True)
    return enlarged[..., : size[0], : size[1]]


def _top_gap(values: Tensor) -> Tensor:
    """(N, C, ...) to (N, ...): the largest less the second."""
    largest = values.topk(2, dim=1).values
    return largest[:, 0] - largest[:, 1]


def _bound(error: float, values: Tensor) -> float:
    """Twice the error, and the rounding of the enlarging."""
    return 2.0 * error + 1e-6 * float(values[values.isfinite()].abs().max())
