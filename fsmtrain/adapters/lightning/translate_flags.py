"""Lightning's flags as `Options` and `Guards`: what the machine decides by, in the numbers that Lightning computes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.fractions_to_batches import fraction_of
from fsmtrain.core.limits import Limits
from fsmtrain.core.transition_guards import Guard
from fsmtrain.errors import OptionsError
from fsmtrain.options import Options


def translate_flags(trainer: Any, counts: Mapping[str, Sequence[float]], **more: Any) -> Options:
    """Return the flags of a run.

    Args:
        trainer: Lightning's trainer, whose loaders are known.
        counts: For each kind of loader, the batches in each; infinite for a stream.
        more: Flags of `Options` that Lightning has none for.
    """
    flags: dict[str, Any] = {
        "device": str(trainer.strategy.root_device),
        "quiet": True,
        "progress_bar": False,
        "runs_dir": None,
        "min_nb_epochs": trainer.fit_loop.min_epochs or 0,
        "max_nb_epochs": None if trainer.fit_loop.max_epochs in (-1, None) else trainer.fit_loop.max_epochs,
        "min_steps": trainer.fit_loop.epoch_loop.min_steps or None,
        "max_steps": None if trainer.max_steps == -1 else trainer.max_steps,
        "accumulate_grad_batches": _accumulation(trainer),
        "check_val_every_n_epoch": trainer.check_val_every_n_epoch or 1,
        "nb_sanity_val_steps": _sanity_steps(trainer, counts.get("val", ())),
        **_limit("train", trainer.limit_train_batches, counts.get("train", ())),
        **_limit("val", trainer.limit_val_batches, counts.get("val", ())),
        **_limit("test", trainer.limit_test_batches, counts.get("test", ())),
        **_limit("predict", trainer.limit_predict_batches, counts.get("predict", ())),
    }
    if not trainer.automatic_optimization:
        flags["accumulate_grad_batches"] = 1
    if counts.get("train") and counts.get("val"):
        interval = trainer.val_check_batch
        flags["val_check_interval"] = 1 if interval == math.inf or trainer.check_val_every_n_epoch is None else interval
    return Options(**(flags | more))


def _accumulation(trainer: Any) -> int | dict[int, int]:
    """Return K, or K by the first epoch that has it, if a callback changes it."""
    for callback in trainer.callbacks:
        if any(cls.__name__ == "GradientAccumulationScheduler" for cls in type(callback).__mro__):
            return dict(callback.scheduling)
    k: int = trainer.accumulate_grad_batches
    return k


def _sanity_steps(trainer: Any, val: Sequence[float]) -> int:
    steps = trainer.num_sanity_val_steps
    longest = max((n for n in val if n != math.inf), default=0)
    if steps == math.inf and math.inf in val:
        raise OptionsError("num_sanity_val_steps=-1: a val loader has no length. Pass a number of batches.")
    return int(longest if steps == math.inf else steps)


def _limit(kind: str, limit: float, lengths: Sequence[float]) -> dict[str, Any]:
    """Return the flag for a limit: as a count, by Lightning's rounding, where all loaders have the same.

    Raises:
        OptionsError: Several loaders have different counts, which no flag of `Options` gives.
    """
    if not lengths or (limit == 1.0 and isinstance(limit, float)):
        return {}
    if isinstance(limit, int):
        return {f"limit_{kind}_batches": limit}
    counts = [int(length * limit) for length in lengths]
    if len(set(counts)) == 1:
        return {f"limit_{kind}_batches": counts[0]}
    if kind != "predict" and counts == [fraction_of(int(length), limit) for length in lengths]:
        return {f"{kind}_percent_check": limit}
    raise OptionsError(
        f"limit_{kind}_batches={limit}: of several loaders this is {', '.join(map(str, counts))} batches. Pass an int, or "
        f"loaders of one length."
    )


def guards_of(trainer: Any, module: object, callbacks: Iterable[object]) -> Guards:
    """Return the guards of a run: none, if nothing can set ``trainer.should_stop`` and validations are counted."""
    may_stop = any(_may_stop(owner) for owner in (module, *callbacks))
    validates_at_end_of_stream = trainer.val_check_batch == math.inf

    def should_stop(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return bool(trainer.should_stop)

    every: int = trainer.val_check_batch
    epochs: int | None = trainer.check_val_every_n_epoch

    def interval_of_run_is_over(limits: Limits, counters: Counters, signals: Signals) -> bool:
        """Return whether a validation is due by the batches of the whole run."""
        return counters.batches_begun % every == 0

    def validation_is_due(limits: Limits, counters: Counters, signals: Signals) -> bool:
        if epochs is not None and (counters.current_epoch + 1) % epochs != 0:
            return False
        if may_stop and trainer.should_stop and trainer.fit_loop._can_stop_early:
            return True
        if epochs is None:
            return interval_of_run_is_over(limits, counters, signals)
        return signals.stream_ended if validates_at_end_of_stream else (counters.batch_nb + 1) % every == 0

    validate: Guard | None = None
    if trainer.enable_validation and (may_stop or validates_at_end_of_stream):
        validate = validation_is_due
    elif trainer.enable_validation and epochs is None:
        validate = interval_of_run_is_over
    return Guards(stop=should_stop if may_stop else None, validate=validate)


def _may_stop(owner: object) -> bool:
    """Return whether an owner's code names ``should_stop``, or is a callback of Lightning's that sets it."""
    for cls in type(owner).__mro__:
        if cls.__module__.split(".")[0] in ("lightning", "pytorch_lightning"):
            if cls.__name__ in ("EarlyStopping", "Timer", "LambdaCallback"):
                return True
        elif any("should_stop" in names for value in vars(cls).values() for names in _names_in(value)):
            return True
    return any("should_stop" in names for value in getattr(owner, "__dict__", {}).values() for names in _names_in(value))


def _names_in(value: object) -> Iterator[tuple[str, ...]]:
    """Yield the names that the code of a function and of those inside it has."""
    value = getattr(value, "__func__", value)
    code: Any = getattr(value, "__code__", value)
    if hasattr(code, "co_names"):
        yield (*code.co_names, *(c for c in code.co_consts if isinstance(c, str)))
        for constant in code.co_consts:
            if hasattr(constant, "co_names"):
                yield from _names_in(constant)
