"""Turn a run into a `Machine` of the library ``transitions``: the same rows, guards, effects and actions, as its callbacks.

The library takes the first transition whose conditions hold, and never evaluates the others. Here exactly one row must hold, as
everywhere in fsmtrain. The model of the machine, `transitions_model.RunModel`, carries out the visits; this file keeps the
machine true to the table, whatever users add to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transitions import Event
from transitions.core import listify
from transitions.extensions import GraphMachine

from fsmtrain.adapters.transitions_model import ADVANCE, RunModel
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.errors import UsageError

if TYPE_CHECKING:
    from transitions.core import CallbackList, CallbacksArg


class Advance(Event):
    """A trigger that fails if a state was visited and no row was taken."""

    def trigger(self, model: Any, *args: Any, **kwargs: Any) -> bool:
        """Trigger the event, as in the library.

        Raises:
            GuardError: A condition that was added to a row kept it from being taken.
        """
        was_taken = super().trigger(model, *args, **kwargs)
        if not was_taken:
            model.raise_if_blocked()
        return was_taken


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

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Copy and pickle as None: two machines would share one run."""
        return type(None), ()

    @property
    def model(self) -> RunModel:
        """The run."""
        return self._run

    # ---- callbacks: those of the run come first

    @property
    def prepare_event(self) -> CallbackList:
        """Callbacks at each trigger: the visit, which does the state's work and chooses the row, then those added."""
        return self._prepare_event

    @prepare_event.setter
    def prepare_event(self, value: CallbacksArg) -> None:
        self._prepare_event = _own_first(self._run.visit, value)

    @property
    def finalize_event(self) -> CallbackList:
        """Callbacks after each trigger: the end of the visit, then those added."""
        return self._finalize_event

    @finalize_event.setter
    def finalize_event(self, value: CallbacksArg) -> None:
        self._finalize_event = _own_first(self._run.end_visit, value)

    @property
    def on_final(self) -> CallbackList:
        """Callbacks after a final state was entered: the end of the run, then those added."""
        return self._on_final

    @on_final.setter
    def on_final(self, value: CallbacksArg) -> None:
        self._on_final = _own_first(self._run.finish_run, value)

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


def _own_first(own: Callable[..., None], value: CallbacksArg) -> CallbackList:
    """Return the run's own callback, once, then the others."""
    return [own, *(callback for callback in listify(value) if callback != own)]


# Options of the library that the run sets itself.
_RESERVED_OPTIONS = frozenset(
    {
        *("model", "states", "transitions", "initial", "send_event", "queued", "auto_transitions", "ordered_transitions"),
        *("model_attribute", "model_override"),
    }
)


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
        >>> machine = as_transitions(Dispatcher(loop.table, loop.limits, Counters.begin(1), Signals(), {}))
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
