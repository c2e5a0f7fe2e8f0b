"""Training in one process until validation stops it.

In memory are weights, Adam's moments and the best weights (16 bytes a number), and what the learner holds. Adam steps
over whole tables, so a step costs O(table). On a CPU with one number of threads the same seed gives the same bits,
resumed or not.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn
from tqdm import tqdm

from recsys.backbones import saved
from recsys.backbones.saved import Terms, Training
from recsys.config_backbone import Backbone
from recsys.errors import InputError


class Learner(Protocol):
    """A model and what it learns from."""

    digest: str
    """SHA-256 of what it learns from: a checkpoint of another is refused."""

    @property
    def model(self) -> nn.Module:
        """Whose weights are trained."""

    def losses(self, epoch: int) -> Iterator[Tensor]:
        """The loss of each batch of an epoch under the weights as they then are: a function of seed and epoch."""

    def measure(self) -> float:
        """What validation says of the weights; more is better."""


def fit(learner: Learner, options: Backbone, checkpoint: Path) -> Training:
    """Train a backbone by its options; as `resume`."""
    training, terms = saved.fresh(learner.model, options), Terms.of(options, learner.digest)
    return resume(learner, training, terms, options.epochs, options.patience, checkpoint)


def resume(
    learner: Learner, training: Training, terms: Terms, epochs: int, patience: int, checkpoint: Path
) -> Training:
    """Train until validation stops it, from the checkpoint if there is one, which is written after each epoch. The
    model is left with the best epoch's weights.

    epochs: at most. patience: of them without a better validation.

    Raises:
        InputError: the checkpoint is damaged or of another training, or a loss is not finite.
    """
    saved.load(checkpoint, training, terms)
    with tqdm(total=epochs, initial=len(training.history), desc=terms.section, unit="epoch", disable=None) as bar:
        while len(training.history) < epochs and training.waited < patience:
            descend(training, learner.losses(len(training.history)))
            found = learner.measure()
            if found > max(training.history, default=-1.0):
                training.best = {name: value.clone() for name, value in learner.model.state_dict().items()}
            training.history.append(found)
            saved.save(checkpoint, training, terms)
            bar.set_postfix(valid=f"{found:.4f}", best=f"{max(training.history):.4f}")
            bar.update()
    learner.model.load_state_dict(training.best)
    return training


def descend(training: Training, losses: Iterable[Tensor]) -> None:
    """A step of all optimizers for each loss of an epoch.

    Raises:
        InputError: a loss is not finite.
    """
    for loss in losses:
        if not loss.isfinite():
            raise InputError(
                f"epoch {len(training.history)}: the loss is {loss.item()}: expected a finite one, lower the learning "
                "rate"
            )
        for optimizer in training.optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        for optimizer in training.optimizers.values():
            optimizer.step()
