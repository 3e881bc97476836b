"""`PrintSamples`: print what the model makes, at the end of an epoch or every so many steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fsmtrain.errors import OptionsError
from fsmtrain.machine import Machine
from fsmtrain.predicates import is_integer
from fsmtrain.runtime.hooks.callback import Callback
from fsmtrain.runtime.rng import get_rng_state, set_rng_state


class PrintSamples(Callback):
    """Print a sample of what the model makes: text that it writes, or predictions for a few inputs.

    The function is called in eval mode and without gradients, and the random states are those of before afterwards: a run
    trains the same bits with and without it.

    Args:
        sample: Gets the model, and returns what is to be printed.
        every_n_steps: Call it after every n-th step of optimizer 0, at the end of the batch. None: at the end of each epoch.

    Raises:
        OptionsError: The number is no int >= 1, or the sample no function.

    Example:
        >>> from fsmtrain import Trainer
        >>> trainer = Trainer(callbacks=[PrintSamples(lambda model: model.write("Once upon a time", length=80))])
    """

    def __init__(self, sample: Callable[[Any], object], *, every_n_steps: int | None = None) -> None:
        if not callable(sample):
            raise OptionsError(f"PrintSamples(sample={sample!r}): must be a function of the model.")
        if every_n_steps is not None and (not is_integer(every_n_steps) or every_n_steps < 1):
            raise OptionsError(f"PrintSamples(every_n_steps={every_n_steps!r}): must be an int >= 1, or None.")
        self.sample, self.every_n_steps = sample, every_n_steps
        self._has_stepped = False

    def on_after_optimizer_step(self, machine: Machine, optimizer: Any) -> None:
        """Remember that this batch has a step of optimizer 0."""
        self._has_stepped |= optimizer is machine.optimizers[0]

    def on_batch_end(self, machine: Machine) -> None:
        """Print a sample if it is due by steps."""
        steps, has_stepped, self._has_stepped = machine.counters.optimizer_steps[0], self._has_stepped, False
        if self.every_n_steps is not None and has_stepped and steps % self.every_n_steps == 0:
            self._print(machine, f"step {steps}")

    def on_epoch_end(self, machine: Machine) -> None:
        """Print a sample if it is due by epochs."""
        if self.every_n_steps is None:
            self._print(machine, f"epoch {machine.current_epoch}")

    def _print(self, machine: Machine, when: str) -> None:
        modes = [(module, module.training) for module in machine.model.modules()]
        random = get_rng_state()
        machine.model.eval()
        try:
            with torch.no_grad():
                print(f"--- sample, {when} ---\n{self.sample(machine.model)}", flush=True)
        finally:
            for module, training in modes:
                module.training = training
            set_rng_state(random)
