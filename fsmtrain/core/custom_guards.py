"""`Guards`: the decisions that a user replaces by guards of their own, and how such a guard is called."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Self

from attrs import field, frozen

from fsmtrain.copies import Call, call_that_made, require_picklable
from fsmtrain.core.counters import Counters, Signals, signal_values
from fsmtrain.core.limits import Limits
from fsmtrain.core.transition_guards import Guard
from fsmtrain.errors import GuardError
from fsmtrain.plurals import a_type_of
from fsmtrain.predicates import is_integer
from fsmtrain.unknown_arguments import explain_unknown_arguments


def _by_optimizer(value: Mapping[int, Guard]) -> Mapping[int, Guard]:
    if not isinstance(value, Mapping):
        raise GuardError(
            f"Guards(step={value!r}): step must be a dict from an optimizer's index to its guard, as in step={{0: guard}}."
        )
    return dict(value)


@explain_unknown_arguments()
@frozen(kw_only=True)
class Guards:
    """The decisions that a user may replace. The bounds of the loops are not among them.

    A guard is any function ``(limits, counters, signals) -> bool`` that changes nothing.

    Args:
        step: For the index of an optimizer, from 0: whether its window closes now. Asked after each of its backwards; the
            default is "the window holds K". The epoch's last batch closes every open window all the same.
        validate: Whether a validation is due. Asked at the end of each batch; replaces both validation flags.
        save: Whether to write a checkpoint of the full training state. Asked at the end of each batch, before validation.
        stop: A second reason to stop beside early stopping's patience. Asked at the end of each batch and wherever
            ``early_stop`` is visited; like patience it waits for ``min_nb_epochs`` and ``min_steps``. Once it holds it stays
            due: while a window is open the run waits, at most for the longest one.
        save_at_end: Whether to save a run where it ends by itself, too, if its last checkpoint is of an earlier batch. A
            `ModelCheckpoint` does.

    Raises:
        GuardError: A value is not a function, or a key of `step` is not an optimizer's index.
    """

    step: Mapping[int, Guard] = field(factory=dict, converter=_by_optimizer)
    validate: Guard | None = None
    save: Guard | None = None
    stop: Guard | None = None
    save_at_end: bool = False

    def __iter__(self) -> Iterator[Guard]:
        """Iterate over the guards that the user has given."""
        return (guard for _, guard in self._named() if guard is not None)

    def __attrs_post_init__(self) -> None:
        for name, guard in self._named():
            if guard is not None and not callable(guard):
                raise GuardError(f"Guards({name}): {guard!r} is not a function (limits, counters, signals) -> bool.")
        for index in self.step:
            if not is_integer(index) or index < 0:
                raise GuardError(f"Guards(step={{{index!r}: ...}}): the key is an optimizer's index, so an int >= 0.")

    def _named(self) -> Iterator[tuple[str, Guard | None]]:
        """Yield each guard after the argument in which it was passed."""
        yield from ((f"step={{{index}: ...}}", guard) for index, guard in self.step.items())
        yield from (("validate", self.validate), ("save", self.save), ("stop", self.stop))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy guards that are objects, which may have a memory. Functions are not copied, here as elsewhere."""
        return type(self)(**{name: copy.deepcopy(getattr(self, name), memo) for name in _ARGUMENTS})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle functions by their name, ready-made guards by the call that made them.

        Raises:
            CopyError: A guard is a lambda, or a function inside another one, which has no name that another process finds.
        """
        for name, guard in self._named():
            if guard is not None and call_that_made(guard) is None:
                require_picklable(
                    guard, f"Guards({name})", "Define the guard with def at the top level of a module, or use a ready-made one."
                )
        step = {index: _pickled(guard) for index, guard in self.step.items()}
        return _unpickled_guards, (type(self), step, *(_pickled(getattr(self, name)) for name in _ARGUMENTS[1:]))


_ARGUMENTS = ("step", "validate", "save", "stop", "save_at_end")


def _pickled(guard: Guard | None) -> Guard | Call | None:
    return call_that_made(guard) or guard


def _unpickled(guard: Guard | Call | None) -> Guard | None:
    return guard() if isinstance(guard, Call) else guard


def _unpickled_guards(cls: type[Guards], step: Mapping[int, Guard | Call], *others: Guard | Call | None) -> Guards:
    """Return the guards of a pickle. A function of the module, which pickle finds by its name."""
    by_optimizer = {index: _unpickled(guard) for index, guard in step.items()}
    return cls(step=by_optimizer, **dict(zip(_ARGUMENTS[1:], map(_unpickled, others), strict=True)))  # type: ignore[arg-type]


def is_numpy_bool(answer: object) -> bool:
    """Return whether an answer is NumPy's bool, which comparisons with NumPy's numbers return. NumPy is not imported."""
    return type(answer).__module__ == "numpy" and type(answer).__name__ in ("bool", "bool_")


@frozen
class Checked:
    """A user's guard that raises `GuardError` if it fails, returns no bool, or changes its arguments.

    Args:
        guard: The user's function.
        name: How it was passed, for errors: ``step={1: my_guard}``.
        watched: Whether to compare its arguments before and after, which costs a copy for each call. A guard whose source
            is a plain expression cannot change them.
    """

    guard: Guard
    name: str
    watched: bool

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        before = (counters.values(), signal_values(signals)) if self.watched else None
        try:
            answer = self.guard(limits, counters, signals)
        except Exception as error:
            raise GuardError(f"Guards({self.name}): the guard raised {type(error).__name__}: {error}") from error
        if before is not None and before != (counters.values(), signal_values(signals)):
            raise GuardError(
                f"Guards({self.name}): the guard changed the counters or signals that were passed to it. A guard must only "
                f"read them. Keep state of your own elsewhere."
            )
        if type(answer) is not bool:
            if is_numpy_bool(answer):
                return bool(answer)
            raise GuardError(
                f"Guards({self.name}): the guard returned {answer!r}, {a_type_of(answer)}. It must return True or False. "
                f"Wrap the result in bool(...)."
            )
        return answer
