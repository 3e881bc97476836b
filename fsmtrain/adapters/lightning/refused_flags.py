"""What cannot be had of Lightning's flags and callbacks, each with the way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fsmtrain.errors import OptionsError

_OWN_MACHINE = "Leave it out, or run this program by Lightning's own Trainer."

# Of each flag: the values with which it is off, and the way out for others.
_OFF: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "barebones": (
        (False,),
        "Switch off what is not needed: logger=False, enable_checkpointing=False, enable_progress_bar=False.",
    ),
    "plugins": ((None,), _OWN_MACHINE),
    "profiler": ((None,), "machine.times has the time in each state; a torch.profiler around the run works, too."),
    "sync_batchnorm": ((False,), "There is one device, so there is nothing to synchronize: leave it out."),
    "model_registry": ((None,), _OWN_MACHINE),
    "reload_dataloaders_every_n_epochs": ((0,), "Make the data depend on the epoch in a sampler with set_epoch."),
    "num_nodes": ((1, "1"), _OWN_MACHINE),
}
_CALLBACKS = {
    "StochasticWeightAveraging": "fsmtrain.callbacks.EMAWeightAveraging averages weights in a program of its own classes.",
    "BatchSizeFinder": "It runs fits within a fit. Choose the batch size before the run.",
    "LearningRateFinder": "It runs fits within a fit. Choose the learning rate before the run.",
}


def refuse_flags(flags: Mapping[str, Any]) -> None:
    """Check that no flag asks for what cannot be had.

    Raises:
        OptionsError: One does.
    """
    for name, (off, way_out) in _OFF.items():
        if name in flags and flags[name] not in off:
            raise OptionsError(f"{name}={flags[name]!r}: it cannot be had with fsmtrain.adapters.lightning. {way_out}")
    if isinstance(flags.get("max_steps"), int) and flags["max_steps"] == 0:
        raise OptionsError("max_steps=0: nothing would be trained. Pass max_steps >= 1, or -1 for no limit.")
    if flags.get("limit_train_batches") == 0:
        raise OptionsError("limit_train_batches=0: nothing would be trained. Call trainer.validate or trainer.test instead.")
    interval = flags.get("val_check_interval")
    if interval is not None and not isinstance(interval, (int, float)):
        raise OptionsError(
            f"val_check_interval={interval!r}: no validation depends on a clock here, so that a resumed run has the same. Pass "
            f"a number of batches, or a fraction of an epoch."
        )


def refuse_callbacks(callbacks: Iterable[object]) -> None:
    """Check that no callback changes what the machine has planned.

    Raises:
        OptionsError: One does.
    """
    for callback in callbacks:
        for cls in type(callback).__mro__:
            if cls.__name__ in _CALLBACKS and cls.__module__.split(".")[0] in ("lightning", "pytorch_lightning"):
                way_out = _CALLBACKS[cls.__name__]
                raise OptionsError(f"callbacks: {cls.__name__} cannot be had with fsmtrain.adapters.lightning. {way_out}")


def refuse_strategy(trainer: Any, package_strategies: Any) -> None:
    """Check that one device trains, in one process, in a precision without a gradient scaler.

    Raises:
        OptionsError: It is otherwise.
    """
    if not isinstance(trainer.strategy, package_strategies.SingleDeviceStrategy):
        raise OptionsError(
            f"strategy={type(trainer.strategy).__name__}, {trainer.num_devices} devices: programs of Lightning run on one "
            f"device here. Pass devices=1."
        )
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        raise OptionsError(
            f"precision={trainer.precision!r}: a gradient scaler may skip steps, which is not covered. Pass "
            f"precision='bf16-mixed'."
        )
