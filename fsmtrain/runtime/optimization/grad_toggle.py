"""Several optimizers side by side: while one takes its turn, only its own parameters require grad."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fsmtrain.errors import OptionsError
from fsmtrain.runtime.optimization.optimizers import OptimizerSlot


class GradToggle:
    """Switches ``requires_grad`` off for what belongs to the other optimizers, and back to what the user had set.

    A parameter that the user froze stays frozen; one that belongs to two optimizers is left on in both their turns.
    """

    def __init__(self, turns: Sequence[OptimizerSlot]) -> None:
        self._turns = turns
        self._switched_off: list[Tensor] = []

    def activate(self, index: int) -> None:
        """Begin the turn of the optimizer with this index, from 0."""
        self.deactivate()
        own = {id(parameter) for parameter in self._turns[index].parameters}
        for turn in self._turns:
            if turn.index != index:
                for parameter in turn.parameters:
                    if parameter.requires_grad and id(parameter) not in own:
                        parameter.requires_grad_(False)
                        self._switched_off.append(parameter)

    def deactivate(self) -> None:
        """End the turn that is under way, if one is."""
        while self._switched_off:
            self._switched_off.pop().requires_grad_(True)


def validate_parameter_owners(turns: Sequence[OptimizerSlot], windows_are_single: bool) -> None:
    """See to it that no gradient could be gathered for two optimizers at once.

    Raises:
        OptionsError: A parameter belongs to two optimizers, and a window may hold more than one backward.
    """
    if windows_are_single:
        return
    owner: dict[int, int] = {}
    for turn in turns:
        for parameter in turn.parameters:
            first = owner.setdefault(id(parameter), turn.index)
            if first != turn.index:
                raise OptionsError(
                    f"accumulate_grad_batches and step guards: a parameter of shape {tuple(parameter.shape)} belongs to the "
                    f"optimizers {first} and {turn.index}, so windows of more than one backward would mix their gradients. "
                    f"Give it to one optimizer, or use accumulate_grad_batches=1 without step guards."
                )
