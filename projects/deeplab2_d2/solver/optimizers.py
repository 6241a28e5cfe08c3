"""Adam, AdamW and SGD with the update rules of Keras, which DeepLab2 was trained with."""

from typing import Any, Callable, Dict, List, Optional

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer


class _KerasEpsilon(Optimizer):
    r"""
    Adds epsilon before the bias correction, as Keras does, to an Adam of PyTorch.

    Keras divides by :math:`\sqrt{v_t} + \epsilon` (the "epsilon hat" of arXiv:1412.6980, Sec. 2),
    PyTorch by :math:`\sqrt{v_t / (1 - \beta_2^t)} + \epsilon`. At the first step that is a factor
    of 32 in epsilon, which matters to weights whose gradients are about 1e-6 or less. So PyTorch's
    kernels get epsilon divided by :math:`\sqrt{1 - \beta_2^t}`.
    """

    def add_param_group(self, param_group: Dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group.setdefault("keras_eps", group["eps"])
        # Steps of the optimizer: what Keras corrects the bias with.
        group.setdefault("num_steps", 0)

    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        for group in self.param_groups:
            group["num_steps"] += 1
            correction = 1.0 - group["betas"][1] ** group["num_steps"]
            group["eps"] = group["keras_eps"] / correction**0.5
        return super().step(closure)


class KerasAdam(_KerasEpsilon, Adam):
    """``torch.optim.Adam`` with Keras's place of epsilon; ``weight_decay`` is an L2 loss's."""


class KerasAdamW(_KerasEpsilon, AdamW):
    """
    ``torch.optim.AdamW`` with Keras's place of epsilon: DeepLab2's ``AdamWeightDecay``, which
    takes ``lr * weight_decay`` of a weight from it before Adam's update.
    """


class KerasSGD(SGD):
    """
    SGD whose momentum holds steps, not gradients, as in Keras.

    The step is ``v = momentum * v - lr * gradient``, where PyTorch keeps
    ``v = momentum * v + gradient`` and steps ``-lr * v``. They differ whenever the learning rate
    changes: here an old gradient keeps the learning rate of its own time. No dampening, no
    Nesterov momentum.
    """

    def __init__(self, params: Any, lr: float, momentum: float = 0.0, weight_decay: float = 0.0):
        """
        Args:
            params: parameters or groups, as for every optimizer of PyTorch.
            lr: learning rate.
            momentum: factor on the last step, in [0, 1).
            weight_decay: factor of the weights that are added to their gradients.

        Raises:
            ValueError: if ``lr`` or ``weight_decay`` is negative or ``momentum`` not in [0, 1).
        """
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._step_group(group, weights)
        return loss

    def _step_group(self, group: Dict[str, Any], weights: List[Tensor]) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        if group["weight_decay"] != 0:
            decay = group["weight_decay"]
            gradients = list(torch._foreach_add(gradients, weights, alpha=decay))
        if group["momentum"] == 0:
            torch._foreach_add_(weights, gradients, alpha=-group["lr"])
            return
        for weight in weights:
            if "momentum_buffer" not in self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        steps = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_mul_(steps, group["momentum"])
        torch._foreach_add_(steps, gradients, alpha=-group["lr"])
        torch._foreach_add_(weights, steps)
