"""Toggle ``requires_grad`` between several optimizers: during the turn of one, only its own parameters require grad."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fsmtrain.errors import OptionsError
from fsmtrain.runtime.optimization.optimizers import OptimizerSlot


class GradToggle:
    """Switch ``requires_grad`` off for the parameters of other optimizers, and back on.

    A parameter that the user froze stays frozen; one that belongs to two optimizers stays on in the turns of both.
    """

    def __init__(self, slots: Sequence[OptimizerSlot]) -> None:
        self._slots = slots
        self._switched_off: list[Tensor] = []

    def activate(self, optimizer_i: int) -> None:
        """Begin the turn of an optimizer."""
        self.deactivate()
        own = {id(parameter) for parameter in self._slots[optimizer_i].parameters}
        for slot in self._slots:
            if slot.index != optimizer_i:
                for parameter in slot.parameters:
                    if parameter.requires_grad and id(parameter) not in own:
                        parameter.requires_grad_(False)
                        self._switched_off.append(parameter)

    def deactivate(self) -> None:
        """End the turn, if there is one. Idempotent."""
        while self._switched_off:
            self._switched_off.pop().requires_grad_(True)


def validate_parameter_owners(slots: Sequence[OptimizerSlot], windows_are_single: bool) -> None:
    """Check that no gradient could be accumulated for two optimizers at once.

    Raises:
        OptionsError: A parameter belongs to two optimizers, and a window may hold more than one backward.
    """
    if windows_are_single:
        return
    owner: dict[int, int] = {}
    for slot in slots:
        for parameter in slot.parameters:
            first = owner.setdefault(id(parameter), slot.index)
            if first != slot.index:
                raise OptionsError(
                    f"accumulate_grad_batches and step guards: a parameter of shape {tuple(parameter.shape)} belongs to the "
                    f"optimizers {first} and {slot.index}, so windows of more than one backward would mix their gradients. "
                    f"Give it to one optimizer, or use accumulate_grad_batches=1 without step guards."
                )
