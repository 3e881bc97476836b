"""`Limits`: options and sizes resolved to whole numbers, once, before the first state. Guards read only these.

A rule that needs a size is applied only to a loop that will run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from fsmtrain.core import fractions_to_batches as compute
from fsmtrain.core.counters import Signals
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import EvalPass
from fsmtrain.early_stopping import is_of_validation
from fsmtrain.old_names import renamed_attributes
from fsmtrain.options import Options

NO_LIMIT = 10**18  # epochs, of a run that other limits end


@renamed_attributes(check_batches="val_check_batches", check_epochs="val_check_epochs")
@frozen(kw_only=True)
class Limits:
    """The bounds of the loops of one run, in whole batches, epochs or optimizers.

    A total of 0 batches of a loop that runs means "unknown until its loader ends" (a stream).
    """

    fits: bool  # whether the run was asked to train
    epochs: int  # max_nb_epochs, `NO_LIMIT` if that is None; 0 in a run that only tests
    min_epochs: int  # min_nb_epochs
    max_steps: int  # of global_step; 0: no limit
    min_steps: int  # of global_step; 0: no minimum
    has_max_time: bool  # whether max_time is set
    train_batches: int  # of the first epoch, and expected of the others; 0: a stream
    train_is_stream: bool  # whether the train loader has no length
    validates: bool  # whether any epoch has a validation
    val_batches: int  # of one validation, all loaders together; 0: one of them is a stream
    sanity_batches: int  # of the sanity pass, all loaders together; 0: none, or one of them is a stream
    has_sanity: bool  # whether there is a sanity pass
    tests: bool  # whether the run ends with the test state
    test_batches: int  # all loaders together; 0: one of them is a stream
    evaluates_stream: bool  # whether any val or test loader is a stream
    val_check_batches: int  # train batches from one validation to the next, in the first epoch
    val_check_epochs: int  # epochs from one epoch with validations to the next
    optimizers: int  # that take turns at each batch; 1 with manual optimization
    manual_optimization: bool  # whether `training_step` runs backwards and steps by itself
    splits_batches: bool  # whether truncated BPTT is on
    may_return_none: bool  # whether a forward may have no loss, and so no backward
    windows: tuple[tuple[int, int], ...]  # (first epoch, K), in the order of the epochs
    longest_window: int  # batches that a stop waits for open windows, before the next batch closes all
    stops_early: bool  # whether early stopping is on, and its metric may be there
    skips_steps: bool  # whether a step may be skipped: by fp16's gradient scaler, or on_nonfinite
    has_own_step: bool  # whether the model decides how often it steps: by its own `optimizer_step`, or manually
    rolls_back: bool  # whether a loss or gradient that is not finite ends the run, to load a checkpoint
    saves_end: bool  # whether a run that ends by itself is saved there

    # Of a resumed run.
    is_past_last_epoch: bool = False  # whether it was resumed within an epoch after max_nb_epochs were done
    begins_in_window: bool = False  # whether a window was open, which other limits may have begun

    # For the runtime: batches to take from each loader, None for the whole of a stream.
    val_loaders: tuple[int | None, ...]
    sanity_loaders: tuple[int | None, ...]  # an upper bound for a stream
    test_loaders: tuple[int | None, ...]

    @property
    def has_max_epochs(self) -> bool:
        """Whether the run ends after some number of epochs."""
        return self.epochs < NO_LIMIT

    def window_of(self, epoch: int) -> int:
        """Return K, the backwards in a full window, for the epoch with this index, from 0.

        >>> from fsmtrain.core.sizes import Sizes
        >>> limits = resolve(Options(accumulate_grad_batches={2: 4, 5: 1}), Sizes(train=8))
        >>> [limits.window_of(epoch) for epoch in range(7)]
        [1, 1, 4, 4, 4, 1, 1]
        """
        length = 1
        for first, value in self.windows:
            if first > epoch:
                break
            length = value
        return length

    def begin_signals(self, splits: int = 1) -> Signals:
        """Return the signals of a run before its first state: every epoch is expected to be as long as the first."""
        return Signals.begin(self.train_batches, self.val_check_batches, splits)

    def eval_batches(self, eval_pass: EvalPass) -> int:
        """Return the batches of one such pass over all its loaders together; 0 if one of them is a stream."""
        return {"sanity": self.sanity_batches, "val": self.val_batches, "test": self.test_batches}[eval_pass]


def resolve(
    options: Options,
    sizes: Sizes,
    *,
    has_validation_guard: bool = False,
    has_own_step: bool = False,
    saves_end: bool = False,
    step_windows: Sequence[int | None] = (),
) -> Limits:
    """Return the limits of a run with these options on data of these sizes.

    Args:
        options: The flags.
        sizes: The sizes of data and model.
        has_validation_guard: Whether the user has replaced the rule for validation, so that the two flags for it do not matter.
        has_own_step: Whether the model overrides ``optimizer_step``.
        saves_end: Whether a run that ends by itself is saved there.
        step_windows: The batches in a window of each optimizer with a step guard; None if unknown, so at most an epoch.

    Raises:
        SizesError: The options do not fit the sizes: an empty train loader, a percentage that rounds to no batch, a
            percentage of a stream, a ``val_check_interval`` that would never fire.

    Source: semantics, "Sizes".
    """
    epochs = 0 if not sizes.fits else NO_LIMIT if options.max_nb_epochs is None else options.max_nb_epochs
    manual = sizes.manual_optimization and epochs > 0
    train = compute.train_batches_of(options, sizes) if epochs else 0
    has_validations = epochs > 0 and (has_validation_guard or epochs >= options.check_val_every_n_epoch)
    sanity = compute.sanity_loader_batches(options, sizes) if sizes.fits else ()
    val: tuple[int | None, ...] = ()
    val_batches = 0
    if has_validations or any(n != 0 for n in sanity):
        val = compute.eval_loader_batches(options, "val_percent_check", sizes.val)
        val_batches = _total(val, sizes.val)
    if not any(n != 0 for n in val):  # nothing to validate, so nothing to try out beforehand either
        val, val_batches, sanity = (), 0, ()
    validates = has_validations and val != ()
    test = compute.eval_loader_batches(options, "test_percent_check", sizes.test)
    tests = any(n != 0 for n in test)
    return Limits(
        fits=sizes.fits,
        epochs=epochs,
        min_epochs=options.min_nb_epochs,
        max_steps=options.max_steps or 0,
        min_steps=options.min_steps or 0,
        has_max_time=options.max_time is not None and epochs > 0,
        train_batches=train or 0,
        train_is_stream=train is None,
        validates=validates,
        val_batches=val_batches,
        sanity_batches=_total(sanity, sizes.val),
        has_sanity=any(n != 0 for n in sanity),
        tests=tests,
        test_batches=_total(test, sizes.test),
        evaluates_stream=any(n is None for n in (*(sizes.val if val else ()), *(sizes.test if tests else ()))),
        val_check_batches=compute.batches_between_validations(options, train) if validates and not has_validation_guard else 0,
        val_check_epochs=options.check_val_every_n_epoch,
        optimizers=1 if manual else sizes.optimizers,
        manual_optimization=manual,
        splits_batches=options.truncated_bptt_steps is not None,
        may_return_none=sizes.may_return_none and epochs > 0 and not manual,
        windows=_windows(options),
        longest_window=max(longest_k(options), *(train or 0 if n is None else n for n in (*step_windows, 1))),
        stops_early=_stops_early(options, epochs, validates),
        skips_steps=not manual and (options.mixed_precision.uses_scaler or options.on_nonfinite in ("skip", "rollback")),
        has_own_step=(has_own_step and epochs > 0) or manual,
        rolls_back=not manual and options.on_nonfinite == "rollback",
        saves_end=saves_end and epochs > 0,
        val_loaders=val,
        sanity_loaders=sanity,
        test_loaders=test,
    )


def longest_k(options: Options) -> int:
    """Return the longest K of the epochs that a run with these options has."""
    epochs = NO_LIMIT if options.max_nb_epochs is None else max(1, options.max_nb_epochs)
    return max((length for first, length in _windows(options) if first < epochs), default=1)


def _stops_early(options: Options, epochs: int, validates: bool) -> bool:
    """Return whether early stopping may act. A metric of training is there in each epoch; others need a validation."""
    rule = options.early_stopping
    return rule is not None and (validates or (epochs > 0 and not is_of_validation(rule.monitor)))


def _windows(options: Options) -> tuple[tuple[int, int], ...]:
    length = options.accumulate_grad_batches
    return tuple(sorted(length.items())) if isinstance(length, Mapping) else ((0, length),)


def _total(batches: Sequence[int | None], loaders: Sequence[int | None]) -> int:
    """Return the batches of all loaders together; 0 if one of them is a stream, of which `batches` is at most a bound."""
    return 0 if any(n is None for n in loaders) else sum(n for n in batches if n is not None)
