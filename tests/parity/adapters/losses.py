"""Our losses, their gradients and the matching for the cases of ``parity/losses``."""

from typing import Any, Callable, Dict, List, Mapping, Optional

import numpy as np
import torch
from torch import Tensor

from deeplab2_d2 import losses
from deeplab2_d2.losses import MaskMatching, MaskTargets

Arrays = Mapping[str, np.ndarray]
Tensors = Dict[str, Tensor]
Kwargs = Dict[str, Any]


def port(case: Dict[str, Any], arrays: Arrays) -> Optional[Arrays]:
    """Our outputs for one case, under the reference's names; None if it is not ported."""
    if case["target"] in _FORWARD_PORTS:
        inputs = _tensors(arrays, "in/")
        return {
            f"out/{name}": output.numpy()
            for name, output in _FORWARD_PORTS[case["target"]](case["kwargs"], inputs).items()
        }
    if case["target"] not in _PORTS:
        return None
    true, pred = _tensors(arrays, "true/"), _tensors(arrays, "pred/")
    for tensor in pred.values():
        tensor.requires_grad_()
    values = _PORTS[case["target"]](case["kwargs"], true, pred)
    total = values.get("total_loss", sum(values.values())).sum()
    names = list(pred)
    gradients = torch.autograd.grad(total, [pred[name] for name in names], allow_unused=True)
    outputs = {f"out/{name}": value.detach().numpy() for name, value in values.items()}
    for name, gradient in zip(names, gradients):
        gradient = torch.zeros_like(pred[name]) if gradient is None else gradient
        outputs[f"grad/{name}"] = gradient.numpy()
    return outputs


def _tensors(arrays: Arrays, prefix: str) -> Tensors:
    return {
        name[len(prefix) :]: torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _channels_first(maps: Tensor) -> Tensor:
    """(N, ..., C) as (N, C, ...)."""
    return maps.movedim(-1, 1)


def _maps(maps: Tensor) -> Tensor:
    """(N, H, W) or (N, H, W, C) as (N, C, H, W)."""
    return maps[:, None] if maps.dim() == 3 else _channels_first(maps)


def _cross_entropy(kwargs: Kwargs, true: Tensors, pred: Tensors) -> Tensors:
    weights = (pred if kwargs.get("dynamic_weight") else true)["weight"]
    labels = true["gt"]
    labels = _channels_first(labels) if labels.is_floating_point() else labels
    loss = losses.topk_cross_entropy(
        _channels_first(pred["pred"]),
        labels,
        weights,
        ignore_label=kwargs["ignore_label"],
        top_k_percent=kwargs["top_k_percent_pixels"],
    )
    return {"loss": loss}


def _regression(kwargs: Kwargs, true: Tensors, pred: Tensors) -> Tensors:
    function = {"mse": losses.topk_mse, "l1": losses.topk_l1}[kwargs["loss_function"]]
    loss = function(
        _maps(pred["pred"]),
        _maps(true["gt"]),
        true["weight"],
        top_k_percent=kwargs["top_k_percent_pixels"],
    )
    return {"loss": loss}


# DeepLab2's loss option: prediction, ground truth, weight.
FAMILY_TERMS = {
    "semantic_loss": ("semantic_logits", "semantic_gt", "semantic_loss_weight"),
    "center_loss": ("center_heatmap", "instance_center_gt", "center_loss_weight"),
    "regression_loss": ("offset_map", "instance_regression_gt", "regression_loss_weight"),
    "motion_loss": ("frame_offset_map", "frame_offset_gt", "frame_regression_loss_weight"),
    "next_regression_loss": (
        "next_offset_map",
        "next_instance_regression_gt",
        "next_regression_loss_weight",
    ),
}


def _focal(kwargs: Kwargs, true: Tensors, pred: Tensors) -> Tensors:
    loss = losses.focal_cross_entropy(
        _channels_first(pred["pred"]),
        _channels_first(true["gt"]),
        pred["weight"],
        alpha=kwargs["focal_loss_alpha"],
        gamma=kwargs["focal_loss_gamma"],
        background_channel=kwargs["background_channel_index"],
    )
    return {"loss": loss}


def _dice(kwargs: Kwargs, true: Tensors, pred: Tensors) -> Tensors:
    loss = losses.mask_dice_loss(
        _channels_first(pred["pred"]),
        _channels_first(true["gt"]),
        pred["weight"],
        activation=kwargs["prediction_activation"],
    )
    return {"loss": loss}


def _depth(function: Callable[..., Tensor]) -> Callable[..., Tensors]:
    def compute(kwargs: Kwargs, true: Tensors, pred: Tensors) -> Tensors:
        loss = function(
            pred["pred"],
            true["gt"],
            ignore_value=kwargs["ignore_label"],
            empty_value=float("nan"),
        )
        return {"loss": loss}

    return compute


def _family(kwargs: Kwargs, true: Tensors, pred: Tensors) -> Tensors:
    values: Tensors = {}
    for term, options in kwargs["loss_options"].items():
        weight = options.get("weight", 1.0)
        if options["name"] == "depth_loss":
            inputs = {"gt": true["depth_gt"]}
            prediction = {"pred": pred["depth_pred"]}
            call = {"ignore_label": kwargs["ignore_depth"]}
            values[term] = weight * _depth(losses.depth_loss)(call, inputs, prediction)["loss"]
            continue
        name, target, weight_name = FAMILY_TERMS[term]
        call = {"top_k_percent_pixels": options.get("top_k_percent", 1.0)}
        compute = _regression
        if options["name"] == "softmax_cross_entropy":
            call["ignore_label"] = kwargs["ignore_label"]
            compute = _cross_entropy
        else:
            call["loss_function"] = options["name"]
        inputs = {"gt": true[target], "weight": true[weight_name]}
        values[term] = weight * compute(call, inputs, {"pred": pred[name]})["loss"]
    values["total_loss"] = sum(values.values())
    return values


def _hungarian(kwargs: Kwargs, inputs: Tensors) -> Tensors:
    costs = inputs["weights"]
    num_rows, num_columns = costs.shape[1:]
    size = max(num_rows, num_columns)
    square = torch.zeros(len(costs), size, size)
    assigned = losses.hungarian_matching(costs)
    for matrix, columns in zip(square, assigned.tolist()):
        # Rows and columns of the padding are matched in ascending order.
        columns += [-1] * (size - num_rows)
        free = iter(sorted(set(range(size)) - set(columns)))
        for row, column in enumerate(columns):
            matrix[row, next(free) if column < 0 else column] = 1.0
    return {"square": square, "nonsquare": square[:, :num_rows, :num_columns]}


def _similarity(kwargs: Kwargs, inputs: Tensors) -> Tensors:
    true, pred = _channels_first(inputs["gt_mask"]), _channels_first(inputs["pred_mask"])
    return {"similarity": losses.mask_similarity(true, pred, kwargs["metric"])}


FEATURES = "pixel_space_normalized_feature"
MASKS = "pixel_space_mask_logits"
CLASSES = "transformer_class_logits"


def _max_deeplab(kwargs: Kwargs, true: Tensors, pred: Tensors) -> Tensors:
    options = kwargs["loss_options"]
    targets = losses.build_mask_targets(
        true["semantic_gt"],
        true["thing_id_mask_gt"],
        true["thing_id_class_gt"],
        size=tuple(pred[MASKS].shape[1:3]),
        thing_ids=kwargs["thing_class_ids"],
        stuff_ids=_stuff_ids(kwargs, pred[CLASSES].shape[2] - 1),
        ignore_label=kwargs["ignore_label"],
    )
    overlaps = losses.measure_overlaps(_channels_first(pred[MASKS]).flatten(2), targets)
    matching = losses.match_masks(targets, overlaps, pred[CLASSES])
    values: Tensors = {}
    for index in range(kwargs["auxiliary_output_number"] + 1):
        source = f"aux{index - 1}/" if index else ""
        output = f"aux_{index - 1}" if index else ""
        terms = _mask_terms(kwargs, source, targets, matching, pred)
        values.update({output + name: value for name, value in terms.items()})
    values["semantic_loss"] = options["semantic_loss"]["weight"] * losses.topk_cross_entropy(
        _channels_first(pred["semantic_logits"]),
        true["semantic_gt"],
        true["semantic_loss_weight"],
        ignore_label=kwargs["ignore_label"],
        top_k_percent=options["semantic_loss"].get("top_k_percent", 1.0),
    )
    return values


def _mask_terms(
    kwargs: Kwargs, source: str, targets: MaskTargets, matching: MaskMatching, pred: Tensors
) -> Tensors:
    options = kwargs["loss_options"]
    mask_id = options["mask_id_cross_entropy_loss"]
    mask_logits = _channels_first(pred[source + MASKS]).flatten(2)
    terms = losses.mask_losses(
        mask_logits,
        pred[source + CLASSES],
        targets,
        matching,
        losses.measure_overlaps(mask_logits, targets),
        mask_id_top_k=mask_id.get("top_k_percent", 1.0),
    )
    discrimination = options["instance_discrimination_loss"]
    features = _channels_first(pred[source + FEATURES]).flatten(2)
    top_k = discrimination.get("top_k_percent", 1.0)
    num_samples = kwargs.get("instance_discrimination_sample_k", 0)
    if num_samples:
        instance = losses.pixel_contrastive_loss(
            features, targets, num_samples=num_samples, top_k_percent=top_k
        )
    else:
        instance = losses.instance_discrimination_loss(features, targets, top_k_percent=top_k)
    pq_weight = options["pq_style_loss"]["weight"]
    return {
        "pq_style_loss_class_term": pq_weight * terms.class_term,
        "pq_style_loss_mask_dice_term": pq_weight * terms.mask_term,
        "mask_id_cross_entropy_loss": mask_id["weight"] * terms.mask_id,
        "instance_discrimination_loss": discrimination["weight"] * instance,
    }


def _stuff_ids(kwargs: Kwargs, num_classes: int) -> List[int]:
    """Classes without void; it takes a place among them if it is not beyond them."""
    void = kwargs["ignore_label"]
    ids = range(num_classes + (void < num_classes))
    return [index for index in ids if index != void and index not in kwargs["thing_class_ids"]]


_PORTS: Dict[str, Callable[[Kwargs, Tensors, Tensors], Tensors]] = {
    "loss.base_loss.TopKCrossEntropyLoss": _cross_entropy,
    "loss.base_loss.TopKGeneralLoss": _regression,
    "loss.base_loss.FocalCrossEntropyLoss": _focal,
    "loss.base_loss.MaskDiceLoss": _dice,
    "loss.base_loss.SILogError": _depth(losses.silog_error),
    "loss.base_loss.RelativeSquaredError": _depth(losses.relative_squared_error),
    "loss.base_loss.SILogPlusRelativeSquaredLoss": _depth(losses.depth_loss),
    "loss.loss_builder.DeepLabFamilyLoss": _family,
    "loss.max_deeplab_loss.MaXDeepLabLoss": _max_deeplab,
}
# Without gradients.
_FORWARD_PORTS: Dict[str, Callable[[Kwargs, Tensors], Tensors]] = {
    "loss.max_deeplab_loss.nonsquare_hungarian_matching": _hungarian,
    "loss.max_deeplab_loss._mask_similarity": _similarity,
}
