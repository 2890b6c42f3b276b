"""Which weights a training ends with: an average over its steps, or the best that a validation set saw."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

# A young average looks back over about n / 9 of its n steps, so that the weights of the start leave it
# soon; with a larger number sooner, and averaging less. TensorFlow's ExponentialMovingAverage has this
# rule.
_YOUNG = 9.0
# Of the learning rate where the validation loss no longer falls. A larger one takes more falls to the same
# rate, a smaller one leaps over rates at which there is still something to learn.
_FALL = 0.3


class FinalWeights(nn.Module):
    """A choice of weights; its state is kept in the training's checkpoint."""

    def after_step(self, network: nn.Module) -> None:
        """Look at the weights after a step."""

    def after_round(self, network: nn.Module) -> dict[str, float]:
        """Look at the weights after a round of steps; what the log should say of them."""
        return {}

    @property
    def finished(self) -> bool:
        """Whether more steps would change nothing."""
        return False

    @abstractmethod
    def chosen(self) -> dict[str, Tensor]:
        """The state of the network to end with."""


class Average(FinalWeights):
    """The moving average w <- d w + (1 - d) new with d = min(decay, n / (9 + n)) at step n, from 1.

    Args:
        network: its weights at the start.
        decay: d in the long run; the average is over the last 1 / (1 - decay) steps.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.model = AveragedModel(network, multi_avg_fn=partial(_move, decay))
        self.model.update_parameters(network)  # the first call copies and counts one

    def after_step(self, network: nn.Module) -> None:
        self.model.update_parameters(network)

    def chosen(self) -> dict[str, Tensor]:
        return self.model.module.state_dict()


class Best(FinalWeights):
    """The weights of the least validation loss.

    After `patience` rounds without a lesser one, training goes back to them and its learning rate falls; it
    is finished when that would happen once more than `falls` times. So a small set, which is soon learned by
    heart, ends at a low rate, too.

    Args:
        network: its weights at the start.
        judge: the validation loss of the network as it is.
        patience: in rounds.
        falls: how often the rate may fall.
    """

    loss: Tensor
    stale: Tensor
    fallen: Tensor

    def __init__(self, network: nn.Module, judge: Callable[[], float], patience: int, falls: int = 0) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.register_buffer("loss", torch.tensor(math.inf, dtype=torch.float64))
        self.register_buffer("stale", torch.tensor(0))
        self.register_buffer("fallen", torch.tensor(0))
        self._judge, self._patience, self._falls = judge, patience, falls

    def after_round(self, network: nn.Module) -> dict[str, float]:
        found = self._judge()
        if found < float(self.loss):
            self.loss.fill_(found)
            self.stale.zero_()
            self.network.load_state_dict(network.state_dict())
        else:
            self.stale += 1
        if int(self.stale) >= self._patience:
            self.fallen += 1
            self.stale.zero_()
            network.load_state_dict(self.network.state_dict())
        return {"validation_loss": found}

    @property
    def factor(self) -> float:
        """On the learning rate."""
        return _FALL ** int(self.fallen)

    @property
    def finished(self) -> bool:
        return int(self.fallen) > self._falls

    def chosen(self) -> dict[str, Tensor]:
        return self.network.state_dict()


class BestAverage(FinalWeights):
    """The moving average with the least validation loss; finished after `patience` rounds without a lesser.

    Args:
        network: its weights at the start.
        decay: of the average, see `Average`.
        judge: the validation loss of a network.
        patience: in rounds.
    """

    def __init__(
        self, network: nn.Module, decay: float, judge: Callable[[nn.Module], float], patience: int
    ) -> None:
        super().__init__()
        self.average = Average(network, decay)
        self.best = Best(self._averaged(), lambda: judge(self._averaged()), patience)

    def _averaged(self) -> nn.Module:
        averaged: nn.Module = self.average.model.module
        return averaged

    def after_step(self, network: nn.Module) -> None:
        self.average.after_step(network)

    def after_round(self, network: nn.Module) -> dict[str, float]:
        return self.best.after_round(self._averaged())

    @property
    def finished(self) -> bool:
        return self.best.finished

    def chosen(self) -> dict[str, Tensor]:
        return self.best.chosen()


@torch.no_grad()
def _move(decay: float, average: list[Tensor], new: list[Tensor], count: Tensor | int) -> None:
    n = float(count)
    torch._foreach_lerp_(average, new, 1.0 - min(decay, n / (_YOUNG + n)))
