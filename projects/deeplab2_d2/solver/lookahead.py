"""RAdam with Lookahead, which MaX-DeepLab's paper trains with."""

from typing import Any, Callable, Optional

import torch
from torch.optim import RAdam


class LookaheadRAdam(RAdam):
    """
    ``torch.optim.RAdam`` whose weights are pulled back to slow ones every few steps.

    Reference: Lookahead Optimizer (arXiv:1907.08610), Algorithm 1; MaX-DeepLab (arXiv:2012.00759),
    Sec. 4, uses it around RAdam without saying its numbers. The defaults are those of TensorFlow
    Addons. After every ``sync_period`` steps the slow weights move by ``slow_step`` of the way to
    the fast ones, which then start again from there; in between, evaluation sees the fast ones.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        eps: float = 1e-7,
        weight_decay: float = 0.0,
        sync_period: int = 6,
        slow_step: float = 0.5,
    ):
        """
        Args:
            params: parameters or groups, as for every optimizer of PyTorch.
            lr: learning rate of the fast weights.
            eps: added to the root of the second moment.
            weight_decay: factor of the weights that are added to their gradients.
            sync_period: fast steps for each slow one, at least 1.
            slow_step: in (0, 1]; 1 is plain RAdam.

        Raises:
            ValueError: if ``sync_period`` or ``slow_step`` is outside its range.
        """
        if sync_period < 1:
            raise ValueError(f"sync_period must be at least 1, got {sync_period}")
        if not 0.0 < slow_step <= 1.0:
            raise ValueError(f"slow_step must be in (0, 1], got {slow_step}")
        super().__init__(params, lr=lr, eps=eps, weight_decay=weight_decay)
        for group in self.param_groups:
            group.setdefault("sync_period", sync_period)
            group.setdefault("slow_step", slow_step)
            group.setdefault("num_steps", 0)

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # RAdam takes a weight without any state for one that it has not seen.
        first_values = {
            weight: weight.clone()
            for group in self.param_groups
            for weight in group["params"]
            if weight.grad is not None and "slow_weight" not in self.state[weight]
        }
        super().step()
        for weight, value in first_values.items():
            self.state[weight]["slow_weight"] = value
        for group in self.param_groups:
            group["num_steps"] += 1
            if group["num_steps"] % group["sync_period"] == 0:
                self._synchronise(group)
        return loss

    def _synchronise(self, group: Any) -> None:
        fast = [weight for weight in group["params"] if "slow_weight" in self.state[weight]]
        if not fast:
            return
        slow = [self.state[weight]["slow_weight"] for weight in fast]
        torch._foreach_lerp_(slow, fast, group["slow_step"])
        torch._foreach_copy_(fast, slow)
