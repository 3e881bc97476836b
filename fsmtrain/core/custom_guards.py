"""`Guards`: the decisions that a user replaces by guards of their own, and how such a guard is called."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from fsmtrain.core.counters import Counters, Signals, signal_values
from fsmtrain.core.limits import Limits
from fsmtrain.core.transition_guards import Guard
from fsmtrain.errors import GuardError
from fsmtrain.old_names import renamed_arguments
from fsmtrain.plurals import a_type_of
from fsmtrain.predicates import is_integer


def _by_optimizer(value: Mapping[int, Guard]) -> Mapping[int, Guard]:
    if not isinstance(value, Mapping):
        raise GuardError(
            f"Guards(step={value!r}): step must be a dict from an optimizer's index to its guard, as in step={{0: guard}}."
        )
    return dict(value)


@renamed_arguments(check="validate")
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
            ``early_stop`` is visited; it acts under the same conditions (``min_nb_epochs``, no open window).

    Raises:
        GuardError: A value is not a function, or a key of `step` is not an optimizer's index.
    """

    step: Mapping[int, Guard] = field(factory=dict, converter=_by_optimizer)
    validate: Guard | None = None
    save: Guard | None = None
    stop: Guard | None = None

    def __attrs_post_init__(self) -> None:
        named: list[tuple[str, object]] = [(f"step={{{index}: ...}}", guard) for index, guard in self.step.items()]
        named += [("validate", self.validate), ("save", self.save), ("stop", self.stop)]
        for name, guard in named:
            if guard is not None and not callable(guard):
                raise GuardError(f"Guards({name}): {guard!r} is not a function (limits, counters, signals) -> bool.")
        for index in self.step:
            if not is_integer(index) or index < 0:
                raise GuardError(f"Guards(step={{{index!r}: ...}}): the key is an optimizer's index, so an int >= 0.")


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
