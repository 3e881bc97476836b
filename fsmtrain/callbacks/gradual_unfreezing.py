"""`GradualUnfreezing`: freeze parts of the model, and train each from an epoch on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from fsmtrain.errors import OptionsError
from fsmtrain.machine import Machine
from fsmtrain.predicates import is_integer
from fsmtrain.runtime.hooks.callback import Callback
from fsmtrain.user_warnings import warn


class GradualUnfreezing(Callback):
    """Freeze parts of the model when fit begins, and train each from the beginning of an epoch on.

    A frozen part requires no gradients and is in eval mode, so that neither dropout nor the statistics of batch normalization
    act in it. Give ``configure_optimizers`` all parameters: an optimizer passes over those without a gradient. What is frozen
    is part of checkpoints, and a resumed run continues with it.

    Args:
        unfreeze_at: For the name of each part, a submodule or a parameter, the index of the epoch, from 0, from which on it is
            trained; None: never. Of two names that fit a parameter the longer one counts.

    Raises:
        OptionsError: An epoch is no int >= 0 or None, or the model has no such part.

    Example:
        The head is trained from the beginning, the rest of a backbone later, its embedding never:

        >>> from fsmtrain import Trainer
        >>> unfreezing = GradualUnfreezing({"backbone": 3, "backbone.layer4": 1, "backbone.embedding": None})
        >>> trainer = Trainer(max_nb_epochs=10, callbacks=[unfreezing])
    """

    def __init__(self, unfreeze_at: Mapping[str, int | None]) -> None:
        for name, epoch in unfreeze_at.items():
            if epoch is not None and (not is_integer(epoch) or epoch < 0):
                raise OptionsError(
                    f"GradualUnfreezing: the epoch of {name!r} is {epoch!r}: it must be an int >= 0, or None for never."
                )
        self.unfreeze_at = dict(unfreeze_at)
        self._begun = False  # in a resumed run, what is frozen is in the checkpoint

    def setup(self, machine: Machine, stage: str) -> None:
        """Look the names up."""
        parts = {name for name, _ in (*machine.model.named_modules(), *machine.model.named_parameters())}
        for name in self.unfreeze_at:
            if name not in parts:
                tops = ", ".join(name for name, _ in machine.model.named_children())
                raise OptionsError(f"GradualUnfreezing: the model has no part {name!r}. Its first parts are: {tops}.")

    def on_fit_start(self, machine: Machine) -> None:
        """Freeze what is not trained from epoch 0 on."""
        trained = {id(p) for optimizer in machine.optimizers for group in optimizer.param_groups for p in group["params"]}
        lost = [name for name, part, epoch in self._parameters(machine.model) if epoch is not None and id(part) not in trained]
        if lost and machine.optimizers:
            warn(f"GradualUnfreezing: no optimizer has {', '.join(lost)}, so unfreezing trains nothing there.")
        if not self._begun:
            self._begun = True
            for part, epoch in self._parts(machine.model):
                if epoch != 0:
                    _set_frozen(part, frozen=True)

    def on_epoch_start(self, machine: Machine) -> None:
        """Unfreeze what is trained from this epoch on."""
        if machine.current_epoch in self.unfreeze_at.values():
            for part, epoch in self._parts(machine.model):
                if epoch == machine.current_epoch:
                    _set_frozen(part, frozen=False)

    def on_fit_end(self, machine: Machine) -> None:
        """The next fit begins anew."""
        self._begun = False

    def _parameters(self, model: nn.Module) -> Iterator[tuple[str, nn.Parameter, int | None]]:
        for name, parameter in model.named_parameters():
            if (part := self._named_for(name)) is not None:
                yield name, parameter, self.unfreeze_at[part]

    def _parts(self, model: nn.Module) -> Iterator[tuple[nn.Module | nn.Parameter, int | None]]:
        """Yield each parameter and each module that a name fits, with its epoch."""
        for name, parameter, epoch in self._parameters(model):
            del name
            yield parameter, epoch
        for name, module in model.named_modules():
            if (part := self._named_for(name)) is not None:
                yield module, self.unfreeze_at[part]

    def _named_for(self, name: str) -> str | None:
        """Return the longest of the names that fits a part of the model; None if none does."""
        return max((own for own in self.unfreeze_at if f"{name}.".startswith(f"{own}.")), key=len, default=None)

    def state_dict(self) -> dict[str, Any]:
        """Return whether parts have been frozen; which ones are is part of the model's state."""
        return {"begun": self._begun}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over whether parts have been frozen."""
        self._begun = state["begun"]


def _set_frozen(part: nn.Module | nn.Parameter, *, frozen: bool) -> None:
    if isinstance(part, nn.Module):
        part.training = not frozen
    else:
        part.requires_grad_(not frozen)
