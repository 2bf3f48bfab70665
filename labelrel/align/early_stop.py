"""Early stopping: look at held-out accuracy now and then, and keep the best adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch


class EarlyStop:
    """Remembers the adapter with the best accuracy, and when to give up.

    A run that may stop early has seen fewer examples than the others of its comparison, and has seen the
    gold labels of the items it looks at; the report says so.

    Args:
        parameters: of the adapter.
        accuracy: the accuracy of the model as it is.
        every: steps between two looks.
        patience: looks without a better accuracy before the run is over.

    Attributes:
        looks: (step, accuracy) of each look so far.
    """

    def __init__(
        self, parameters: Sequence[torch.nn.Parameter], accuracy: Callable[[], float], *, every: int, patience: int
    ) -> None:
        self._parameters, self._accuracy = list(parameters), accuracy
        self._every, self._patience = every, patience
        self._best: list[torch.Tensor] = []
        self.looks: list[tuple[int, float]] = []

    @property
    def _best_look(self) -> int:
        """Return the place of the first look with the highest accuracy."""
        return max(range(len(self.looks)), key=lambda place: (self.looks[place][1], -place))

    @property
    def over(self) -> bool:
        """Say whether the last `patience` looks were no better than one before."""
        return bool(self.looks) and len(self.looks) - 1 - self._best_look >= self._patience

    def look(self, step: int) -> None:
        """Measure after every `every`-th step."""
        if step % self._every:
            return
        self.looks.append((step, self._accuracy()))
        if self._best_look == len(self.looks) - 1:
            self._best = [parameter.detach().clone() for parameter in self._parameters]

    def take_best(self) -> None:
        """Put the best adapter into the model, where there was a look."""
        with torch.no_grad():
            for parameter, best in zip(self._parameters, self._best, strict=bool(self._best)):
                parameter.copy_(best)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the state by name, for a checkpoint."""
        found = {"early_stop.looks": torch.tensor(self.looks, dtype=torch.float64).reshape(-1, 2)}
        return found | {f"early_stop.best.{number}": best for number, best in enumerate(self._best)}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over the state that `tensors` gave.

        Raises:
            KeyError: one is missing.
        """
        looks = [(int(step), accuracy) for step, accuracy in tensors["early_stop.looks"].tolist()]
        best = [tensors[f"early_stop.best.{n}"].to(p.device).clone() for n, p in enumerate(self._parameters) if looks]
        self.looks, self._best = looks, best
