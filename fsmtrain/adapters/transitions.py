"""Turn a run into a `Machine` of the library ``transitions``: the same rows, guards, effects and actions, as its callbacks.

The library takes the first transition whose conditions hold, and never evaluates the others. Here exactly one row must hold, as
everywhere in fsmtrain. The model of the machine, `transitions_model.RunModel`, carries out the visits; this file keeps the
machine true to the table, whatever users add to it.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn

from transitions import Event
from transitions.core import listify
from transitions.extensions import GraphMachine

from fsmtrain.adapters.run_model import ADVANCE, RunModel
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.errors import UsageError

if TYPE_CHECKING:
    from transitions.core import CallbacksArg


class Advance(Event):
    """A trigger that fails if a state was visited and no row was taken."""

    def trigger(self, model: Any, *args: Any, **kwargs: Any) -> bool:
        """Trigger the event, as in the library. A callback of the state just entered that calls it gets True at once.

        That visit is made when the current call has ended, so that a chain of such callbacks needs no recursion.

        Raises:
            GuardError: A condition that was added to a row kept it from being taken.
        """
        if model.postpone_advance():
            return True
        with model.advancing():
            was_taken = self._trigger_once(model, *args, **kwargs)
            while model.take_postponed():
                was_taken = self._trigger_once(model)
        return was_taken

    def _trigger_once(self, model: Any, *args: Any, **kwargs: Any) -> bool:
        was_taken = super().trigger(model, *args, **kwargs)
        if not was_taken:
            model.raise_if_blocked()
        return was_taken


def _own_first(attribute: str, own: str) -> Any:
    """Return a property, a list of callbacks: the run's own, by its name in `RunModel`, comes first, once."""

    def assign(machine: RunMachine, value: CallbacksArg) -> None:
        first = getattr(machine.model, own)
        setattr(machine, attribute, [first, *(callback for callback in listify(value) if callback != first)])

    return property(attrgetter(attribute), assign)


class RunMachine(GraphMachine):
    """A `transitions.Machine` with one model, a `RunModel`. ``get_graph().draw(None)`` returns its diagram as Mermaid text.

    Callbacks and triggers may be added. The transitions of ``advance`` are the table's rows and cannot be changed. Callbacks
    that are assigned to ``prepare_event``, ``finalize_event`` or ``on_final`` are called after the run's own.

    Args:
        run: The model.
        options: Further arguments of `GraphMachine`.
    """

    event_cls = Advance
    models: list[Any]

    def __init__(self, run: RunModel, **options: Any) -> None:
        self._run = run
        states = run.states
        super().__init__(
            model=None,
            states=[{"name": state.value, "final": state.is_final} for state in states],
            transitions=run.transitions(),
            initial=states[0].value,
            send_event=True,
            queued=False,
            auto_transitions=False,
            **options,
        )
        self.add_model(run, initial=run.state)

    def __reduce__(self) -> NoReturn:
        self._run.__reduce__()

    @property
    def model(self) -> RunModel:
        """The run."""
        return self._run

    # ---- callbacks: those of the run come first, then those added

    prepare_event = _own_first("_prepare_event", "visit")  # at each trigger: do the state's work and choose the row
    finalize_event = _own_first("_finalize_event", "end_visit")  # after each trigger
    on_final = _own_first("_on_final", "finish_run")  # after a final state was entered

    # ---- rows and model: fixed

    def add_model(self, model: Any, initial: Any = None) -> None:
        """Add the run, and refuse any other model."""
        if self.models:
            raise UsageError("a machine made by as_transitions() has one model, its run: no other can be added.")
        super().add_model(model, initial)

    def remove_model(self, model: Any) -> None:
        """Refuse to remove the run."""
        raise UsageError("a machine made by as_transitions() has one model, its run: it cannot be removed.")

    def add_transition(self, trigger: str, *args: Any, **kwargs: Any) -> None:
        """Add a transition with another trigger than ``advance``."""
        self._forbid_changing_rows(trigger)
        super().add_transition(trigger, *args, **kwargs)

    def remove_transition(self, trigger: str, *args: Any, **kwargs: Any) -> None:
        """Remove a transition with another trigger than ``advance``."""
        self._forbid_changing_rows(trigger)
        super().remove_transition(trigger, *args, **kwargs)

    def _forbid_changing_rows(self, trigger: str) -> None:
        if self.models and trigger == ADVANCE:
            raise UsageError(
                f"the transitions of {ADVANCE}() are the rows of the run's table: none can be added or removed. To change a "
                f"decision, pass Guards(...) to build; to do more, add callbacks such as on_enter_step."
            )


# Options of the library that the run sets itself.
_RESERVED_OPTIONS = {
    "model", "states", "transitions", "initial", "send_event", "queued", "auto_transitions", "ordered_transitions",
    "model_attribute", "model_override",
}  # fmt: skip


def as_transitions(
    dispatcher: Dispatcher,
    *,
    begin: Callable[[], None] = lambda: None,
    end: Callable[[], None] = lambda: None,
    finish: Callable[[], None] | None = None,
    **options: Any,
) -> RunMachine:
    """Return a machine of ``transitions`` that shares the dispatcher's run: either of the two may make the next transition.

    Args:
        dispatcher: The run, in any state.
        begin: Called before each visit. It must be idempotent.
        end: Called after an exception, and after a final state was entered. It must be idempotent.
        finish: Called instead of `end` after a final state was entered. It may set another state, from which the run then
            continues.
        options: Further arguments of `GraphMachine`: ``name``, ``title``, ``graph_engine="graphviz"``,
            ``show_conditions=False``, callbacks such as ``after_state_change``. All callbacks get an `EventData`.

    Raises:
        UsageError: The run sets this option itself, for example ``queued``.

    Example:
        >>> from fsmtrain.core.counters import Counters, Signals
        >>> from fsmtrain.loop import Loop
        >>> from fsmtrain.core.sizes import Sizes
        >>> from fsmtrain.options import Options
        >>> loop = Loop(Options(max_nb_epochs=1), Sizes(train=1))
        >>> machine = as_transitions(Dispatcher(loop.table, loop.limits, Counters.begin(1), loop.limits.begin_signals(), {}))
        >>> machine.on_enter_step(lambda event: print("the state", event.state.name, "has been entered"))
        >>> machine.model.run()
        the state step has been entered
        >>> machine.model.state
        'done'
    """
    reserved = sorted(_RESERVED_OPTIONS.intersection(options))
    if reserved:
        raise UsageError(
            f"as_transitions({reserved[0]}={options[reserved[0]]!r}): the run sets this option itself. Pass callbacks, or "
            f"options of the diagram such as title or graph_engine."
        )
    defaults = {"title": "fsmtrain", "graph_engine": "mermaid", "show_conditions": True}
    return RunMachine(RunModel(dispatcher, begin, end, finish or end), **{**defaults, **options})
