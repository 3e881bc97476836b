"""`EMAWeightAveraging`: an exponential moving average of the weights, which validations and the finished model use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fsmtrain.errors import OptionsError
from fsmtrain.machine import Machine
from fsmtrain.predicates import is_finite
from fsmtrain.runtime.hooks.callback import Callback
from fsmtrain.runtime.model_inspection.compiled_modules import load_plain_state_dict, plain_state_dict


class EMAWeightAveraging(Callback):
    """Average the weights exponentially: ``average = decay * average + (1 - decay) * weights`` after each step of optimizer 0.

    Validations and predictions run with the average, and when training ends the model has it. Checkpoints hold both, and
    training goes on with the weights, so a resumed run has the same bits. The first step sets the average to the weights.

    Args:
        decay: In [0, 1]: how much of the average remains after a step.
        use_buffers: Whether buffers of floating point, such as those of batch normalization, are averaged. If not, the
            average has the buffers of the model.

    Raises:
        OptionsError: The decay is out of its range.

    Example:
        >>> from fsmtrain import Trainer
        >>> trainer = Trainer(max_nb_epochs=20, callbacks=[EMAWeightAveraging(decay=0.999)])
    """

    def __init__(self, decay: float = 0.999, *, use_buffers: bool = False) -> None:
        if not is_finite(decay) or not 0 <= decay <= 1:
            raise OptionsError(f"EMAWeightAveraging(decay={decay!r}): how much remains after a step, so it must lie in [0, 1].")
        self.decay, self.use_buffers = decay, use_buffers
        self.average: AveragedModel | None = None  # None before the first run
        self._loaded: dict[str, Any] | None = None  # from a checkpoint, until there is a model
        self._is_fitting = self._is_swapped = self._is_predicting = False

    def on_fit_start(self, machine: Machine) -> None:
        """Make the average, or take over that of the checkpoint."""
        update: Any = get_ema_multi_avg_fn(self.decay)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(machine.model, multi_avg_fn=update, use_buffers=self.use_buffers)
        self._is_fitting = True
        if self._loaded is not None:
            self.load_state_dict(self._loaded)
            self._loaded = None

    def on_after_optimizer_step(self, machine: Machine, optimizer: Any) -> None:
        """Update the average. `AveragedModel.update_parameters` does the same, but would make the host wait for a GPU."""
        if optimizer is not machine.optimizers[0]:
            return
        average = self._average
        pairs = _tensors(average.module, machine.model)
        averaged = [] if average.n_averaged == 0 else [pair for pair in pairs if self._is_averaged(pair[0])]
        if averaged:
            average.multi_avg_fn([own for own, _ in averaged], [of_model for _, of_model in averaged], 0)  # type: ignore[misc]
        with torch.no_grad():
            for own, of_model in pairs:
                if not averaged or not self._is_averaged(own):
                    own.copy_(of_model)
        average.n_averaged += 1  # on the CPU

    def _is_averaged(self, tensor: Tensor) -> bool:
        return isinstance(tensor, nn.Parameter) or (self.use_buffers and tensor.is_floating_point())

    def on_validation_start(self, machine: Machine) -> None:
        """Swap the average in."""
        if self._is_fitting and self._average.n_averaged > 0:
            self._swap(machine)

    def on_validation_end(self, machine: Machine, metrics: dict[str, Any]) -> None:
        """Swap the weights back in."""
        if self._is_swapped:
            self._swap(machine)

    def on_predict_start(self, machine: Machine) -> None:
        """Swap the average in, for predictions within a fit."""
        if self._is_fitting and self._average.n_averaged > 0 and not self._is_swapped:
            self._is_predicting = True
            self._swap(machine)

    def on_predict_end(self, machine: Machine) -> None:
        """Swap the weights back in."""
        if self._is_predicting:
            self._is_predicting = False
            self._swap(machine)

    def on_train_end(self, machine: Machine) -> None:
        """Give the average to the model."""
        if self._average.n_averaged > 0:
            with torch.no_grad():
                for own, of_model in _tensors(self._average.module, machine.model):
                    of_model.copy_(own)

    def on_fit_end(self, machine: Machine) -> None:
        """From now on the model is what it is."""
        self._is_fitting = False

    def _swap(self, machine: Machine) -> None:
        self._is_swapped = not self._is_swapped
        with torch.no_grad():
            for own, of_model in _tensors(self._average.module, machine.model):
                kept = of_model.clone()
                of_model.copy_(own)
                own.copy_(kept)

    def evaluated_weights(self) -> dict[str, Any] | None:
        """Return the average, which is in checkpoints as the weights to test."""
        return None if self.average is None or self._average.n_averaged == 0 else plain_state_dict(self.average.module)

    @property
    def _average(self) -> AveragedModel:
        assert self.average is not None, "on_fit_start makes it"
        return self.average

    def state_dict(self) -> dict[str, Any]:
        """Return the average, and of how many steps it is one."""
        if self.average is None:
            return self._loaded or {}
        return {"weights": plain_state_dict(self.average.module), "steps": int(self.average.n_averaged)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take an average over."""
        if not self._is_fitting:
            self._loaded = state
        elif state:
            load_plain_state_dict(self._average.module, state["weights"])
            self._average.n_averaged.fill_(state["steps"])

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles contain: a callback that has not run yet."""
        return vars(EMAWeightAveraging(self.decay, use_buffers=self.use_buffers)) | {"decay": self.decay}


def _tensors(average: nn.Module, model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return the parameters and buffers of the average, each with that of the model."""
    own, of_model = ((*module.parameters(), *module.buffers()) for module in (average, model))
    return list(zip(own, of_model, strict=True))
