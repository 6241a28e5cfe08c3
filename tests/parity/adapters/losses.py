"""Our losses and their gradients for the cases of ``parity/losses``."""

from typing import Any, Callable, Dict, Mapping, Optional

import numpy as np
import torch
from torch import Tensor

from deeplab2_d2.losses import topk_cross_entropy, topk_l1, topk_mse

Arrays = Mapping[str, np.ndarray]
Tensors = Dict[str, Tensor]


def port(case: Dict[str, Any], arrays: Arrays) -> Optional[Arrays]:
    """Our outputs for one case, under the reference's names; None if it is not ported."""
    ports: Dict[str, Callable[..., Optional[Tensors]]] = {
        "loss.base_loss.TopKCrossEntropyLoss": _cross_entropy,
        "loss.base_loss.TopKGeneralLoss": _regression,
        "loss.loss_builder.DeepLabFamilyLoss": _family,
    }
    if case["target"] not in ports:
        return None
    true = {
        name[len("true/") :]: torch.from_numpy(arrays[name])
        for name in arrays
        if name.startswith("true/")
    }
    pred = {
        name[len("pred/") :]: torch.from_numpy(arrays[name]).requires_grad_()
        for name in arrays
        if name.startswith("pred/")
    }
    losses = ports[case["target"]](case["kwargs"], true, pred)
    if losses is None:
        return None
    total = losses.get("total_loss", sum(losses.values()))
    names = list(pred)
    gradients = torch.autograd.grad(total.sum(), [pred[name] for name in names], allow_unused=True)
    outputs = {f"out/{name}": loss.detach().numpy() for name, loss in losses.items()}
    for name, gradient in zip(names, gradients):
        gradient = torch.zeros_like(pred[name]) if gradient is None else gradient
        outputs[f"grad/{name}"] = gradient.numpy()
    return outputs


def _channels_first(maps: Tensor) -> Tensor:
    """(N, ..., C) as (N, C, ...)."""
    return maps.movedim(-1, 1)


def _maps(maps: Tensor) -> Tensor:
    """(N, H, W) or (N, H, W, C) as (N, C, H, W)."""
    return maps[:, None] if maps.dim() == 3 else _channels_first(maps)


def _cross_entropy(kwargs: Dict[str, Any], true: Tensors, pred: Tensors) -> Tensors:
    weights = (pred if kwargs.get("dynamic_weight") else true)["weight"]
    labels = true["gt"]
    labels = _channels_first(labels) if labels.is_floating_point() else labels
    loss = topk_cross_entropy(
        _channels_first(pred["pred"]),
        labels,
        weights,
        ignore_label=kwargs["ignore_label"],
        top_k_percent=kwargs["top_k_percent_pixels"],
    )
    return {"loss": loss}


def _regression(kwargs: Dict[str, Any], true: Tensors, pred: Tensors) -> Tensors:
    function = {"mse": topk_mse, "l1": topk_l1}[kwargs["loss_function"]]
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


def _family(kwargs: Dict[str, Any], true: Tensors, pred: Tensors) -> Optional[Tensors]:
    losses: Tensors = {}
    for term, options in kwargs["loss_options"].items():
        if term not in FAMILY_TERMS:
            return None
        prediction, target, weight = FAMILY_TERMS[term]
        top_k = options.get("top_k_percent", 1.0)
        if options["name"] == "softmax_cross_entropy":
            call = {
                "ignore_label": kwargs["ignore_label"],
                "top_k_percent_pixels": top_k,
            }
            compute = _cross_entropy
        else:
            call = {"loss_function": options["name"], "top_k_percent_pixels": top_k}
            compute = _regression
        inputs = {"gt": true[target], "weight": true[weight]}
        loss = compute(call, inputs, {"pred": pred[prediction]})["loss"]
        losses[term] = options.get("weight", 1.0) * loss
    losses["total_loss"] = sum(losses.values())
    return losses
