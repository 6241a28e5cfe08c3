"""Which parameters decay, and which learn at the backbone's rate."""

from typing import Any, Dict, List, Tuple

from torch import nn

from ..structures import new_names


def build_parameter_groups(
    model: nn.Module, *, base_lr: float, weight_decay: float, backbone_multiplier: float = 1.0
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

    Returns:
        At most four groups, each with "params", "lr" and "weight_decay", in the order in which
        their first parameter occurs. A shared parameter occurs once.
    """
    kernels, new = _find_kernels(model), new_names(model)
    groups: Dict[Tuple[float, float], List[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_pretrained = name.startswith("backbone.") and name not in new
        rate = base_lr * (backbone_multiplier if is_pretrained else 1.0)
        decay = weight_decay if id(parameter) in kernels else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _find_kernels(model: nn.Module) -> set:
    kernels = set()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            # DeepLab2 selects variables named *kernel or *weight. Norms have vectors only.
            if name.endswith(("weight", "kernel")) and parameter.dim() >= 2:
                kernels.add(id(parameter))
    return kernels
