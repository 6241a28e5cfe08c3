"""Which parameters decay, and which learn at a rate of their own."""

from typing import Any, Dict, List, Tuple

from torch import nn

from ..structures import classifier_names, new_names


def build_parameter_groups(
    model: nn.Module,
    *,
    base_lr: float,
    weight_decay: float,
    backbone_multiplier: float = 1.0,
    classifier_multiplier: float = 1.0,
    bias_multiplier: float = 1.0,
    decays_depthwise: bool = True,
) -> List[Dict[str, Any]]:
    """
    Sort the trainable parameters of a model into groups for an optimizer.

    Kernels of convolutions and linear layers decay. Biases, norms, embeddings and memory never do.

    Args:
        model: parameters whose name starts with ``backbone.`` are the backbone's.
        base_lr: learning rate.
        weight_decay: decay of the kernels.
        backbone_multiplier: factor on the rate of what is pretrained of the backbone; what is new
            in it (:func:`new_names`) keeps ``base_lr``, as in DeepLab2's
            ``check_if_variable_in_backbone``.
        classifier_multiplier: factor on that of the last layers (:func:`classifier_names`).
        bias_multiplier: further factor on that of the biases of convolutions and linear layers, as
            Caffe's ``lr_mult`` of them.
        decays_depthwise: kernels of depthwise convolutions decay, too.

    Returns:
        Groups, each with "params", "lr" and "weight_decay", in the order in which their first
        parameter occurs. A shared parameter occurs once.

    Raises:
        ValueError: for a classifier's multiplier where the model tells of no classifier.
    """
    kernels, biases = _find_kernels(model, decays_depthwise), _find_biases(model)
    new, classifier = new_names(model), classifier_names(model)
    if classifier_multiplier != 1.0 and not classifier:
        raise ValueError(
            "config key SOLVER.DEEPLAB2.CLASSIFIER_MULTIPLIER must be 1 for a model without "
            f"classifier_parts, got {classifier_multiplier}"
        )
    groups: Dict[Tuple[float, float], List[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = base_lr
        if name.startswith("backbone.") and name not in new:
            rate *= backbone_multiplier
        if name in classifier:
            rate *= classifier_multiplier
        if id(parameter) in biases:
            rate *= bias_multiplier
        decay = weight_decay if id(parameter) in kernels else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _find_kernels(model: nn.Module, with_depthwise: bool) -> set:
    kernels = set()
    for module in model.modules():
        is_depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        is_embedding = isinstance(module, nn.Embedding) or getattr(module, "is_embedding", False)
        if is_embedding or (is_depthwise and not with_depthwise):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            # DeepLab2 selects variables named *kernel or *weight. Norms have vectors only.
            if name.endswith(("weight", "kernel")) and parameter.dim() >= 2:
                kernels.add(id(parameter))
    return kernels


def _find_biases(model: nn.Module) -> set:
    layers = (m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Linear)))
    return {id(layer.bias) for layer in layers if layer.bias is not None}
