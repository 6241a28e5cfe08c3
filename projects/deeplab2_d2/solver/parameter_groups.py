"""Which parameters decay, and which learn at the backbone's rate."""

from typing import Any, Dict, List, Tuple

from torch import nn

# Parts of a backbone that are new to the dense task: they keep the full learning rate.
# As in DeepLab2's `check_if_variable_in_backbone`.
FULL_RATE_WORDS = ("transformer", "extra", "memory_feature")


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
        backbone_multiplier: factor on the backbone's rate; its parameters with one of
            :data:`FULL_RATE_WORDS` in their name keep ``base_lr``.

    Returns:
        At most four groups, each with "params", "lr" and "weight_decay", in the order in which
        their first parameter occurs. A shared parameter occurs once.
    """
    kernels = _find_kernels(model)
    groups: Dict[Tuple[float, float], List[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = base_lr * (backbone_multiplier if _is_pretrained(name) else 1.0)
        decay = weight_decay if id(parameter) in kernels else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _is_pretrained(name: str) -> bool:
    return name.startswith("backbone.") and not any(word in name for word in FULL_RATE_WORDS)


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
