"""The optimizer of the dense part: Adam, AdamW or SGD by parameter, over clipped and accumulated gradients."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper

from recsys.config_train import Train
from recsys.training.groups import Kind, Rule, of_dense

_OPTIMIZERS: dict[Kind, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
_ADAM = ("step", "exp_avg", "exp_avg_sq")
_STATE: dict[Kind, tuple[str, ...]] = {"adam": _ADAM, "adamw": _ADAM, "sgd": ()}


class DenseOptimizer(CombinedOptimizer):
    """One optimizer of each kind over its parameters, stepped together.

    With `train.accumulate` = n only every n-th `step` moves them, by the mean gradient since the last that did; with
    `train.clip` = c that gradient g is scaled by min(1, c / |g|) first, its L2 norm taken over all dense parameters.
    The ranks' gradients have been averaged by then, so that the norm is the same on all of them.

    Attributes:
        state_keys: the state that a parameter has once it has been stepped, by the parameter's name.
    """

    def __init__(self, parameters: Mapping[str, Tensor], train: Train) -> None:
        rules = {name: of_dense(train, name) for name in parameters}
        kinds = dict.fromkeys(rule.kind for rule in rules.values())
        super().__init__([_of_kind(kind, rules, parameters) for kind in kinds])
        self.state_keys = {name: _STATE[rule.kind] for name, rule in rules.items()}
        self._clip, self._accumulate = train.clip, train.accumulate
        self._held = 0

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Forget the gradients, unless they wait for more."""
        if not self._held:
            super().zero_grad(set_to_none)

    def step(self, closure: Any = None) -> None:
        """Take what the last backward has added; move the parameters if that was the last of `accumulate`."""
        self._held += 1
        if self._held == self._accumulate:
            self.flush()

    def flush(self) -> None:
        """Move the parameters by the gradients that wait, if any do."""
        if not self._held:
            return
        moved = [parameter for parameter in self.params.values() if parameter.grad is not None]
        if self._held > 1:
            for parameter in moved:
                parameter.grad.div_(self._held)
        if self._clip:
            torch.nn.utils.clip_grad_norm_(moved, self._clip)
        super().step()
        self._held = 0

    def init_state(self, sparse_grad_parameter_names: set[str] | None = None) -> None:
        """Make room for the state, by a step with gradients of zero (which decays weights)."""
        super().init_state(sparse_grad_parameter_names)
        self.flush()

    def clear_state(self) -> None:
        """Forget the state, as before the first step."""
        for _, optimizer in self.optimizers:
            optimizer.state.clear()


def _of_kind(kind: Kind, rules: dict[str, Rule], parameters: Mapping[str, Tensor]) -> KeyedOptimizerWrapper:
    named = {name: parameters[name] for name, rule in rules.items() if rule.kind == kind}
    groups = [
        {
            "params": [parameter for name, parameter in named.items() if rules[name] == rule],
            "lr": rule.lr,
            "weight_decay": rule.weight_decay,
        }
        for rule in dict.fromkeys(rules[name] for name in named)
    ]
    return KeyedOptimizerWrapper(named, lambda _: _OPTIMIZERS[kind](groups))  # type: ignore[call-arg]
