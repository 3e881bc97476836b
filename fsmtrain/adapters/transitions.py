"""A run as a machine of the package ``transitions``: the same rows, guards, effects and actions, given as callables.

The library takes the first of its transitions whose conditions hold and never looks at the others. Here exactly one row must
hold, as everywhere. How a visit goes is the business of its model, `Run`; here is what keeps the machine true to the table
whatever its users add to it.
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
    """A trigger, as in the library. One that has visited a state must have taken a row."""

    def trigger(self, model: Any, *args: Any, **kwargs: Any) -> bool:
        """As in the library.

        Raises:
            GuardError: The row that holds was kept from being taken by a condition that was added to it.
        """
        taken = super().trigger(model, *args, **kwargs)
        if not taken:
            model.see_that_a_row_was_taken()
        return taken


class RunMachine(GraphMachine):
    """A `transitions.Machine` whose one model is a `Run`. It can draw itself: ``get_graph().draw(None)`` is Mermaid.

    Callbacks and triggers may be added to it. The transitions of ``advance`` are the table's rows, and stay as they are. The
    callbacks of the run itself stay too, before what ``prepare_event``, ``finalize_event`` and ``on_final`` are set to.

    Args:
        run: The model.
        options: What `GraphMachine` takes besides.
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
        """A run is not copied: a copy, or a pickle, of what holds its machine has None in its place."""
        return type(None), ()

    @property
    def model(self) -> RunModel:
        """The run."""
        return self._run

    # ---- what is added stays beside the run's own

    @property
    def prepare_event(self) -> CallbackList:
        """Called at each trigger: the visit, which does the state's work and decides, then what was added."""
        return self._prepare_event

    @prepare_event.setter
    def prepare_event(self, value: CallbacksArg) -> None:
        self._prepare_event = _beside(self._run.visit, value)

    @property
    def finalize_event(self) -> CallbackList:
        """Called when a trigger is over: the visit's end, then what was added."""
        return self._finalize_event

    @finalize_event.setter
    def finalize_event(self, value: CallbacksArg) -> None:
        self._finalize_event = _beside(self._run.close, value)

    @property
    def on_final(self) -> CallbackList:
        """Called when a final state has been entered: the run's end, then what was added."""
        return self._on_final

    @on_final.setter
    def on_final(self, value: CallbacksArg) -> None:
        self._on_final = _beside(self._run.finish, value)

    # ---- the rows and the model stay

    def add_model(self, model: Any, initial: Any = None) -> None:
        """As in the library, for the one model that there is."""
        if self.models:
            raise UsageError("A machine made by as_transitions() runs its own run only: no other model can be added to it.")
        super().add_model(model, initial)

    def remove_model(self, model: Any) -> None:
        """Refused: the machine is that of its run."""
        raise UsageError("A machine made by as_transitions() is that of its run, which cannot be removed from it.")

    def add_transition(self, trigger: str, *args: Any, **kwargs: Any) -> None:
        """As in the library, for other triggers than ``advance``."""
        self._leave_rows_alone(trigger)
        super().add_transition(trigger, *args, **kwargs)

    def remove_transition(self, trigger: str, *args: Any, **kwargs: Any) -> None:
        """As in the library, for other triggers than ``advance``."""
        self._leave_rows_alone(trigger)
        super().remove_transition(trigger, *args, **kwargs)

    def _leave_rows_alone(self, trigger: str) -> None:
        if self.models and trigger == ADVANCE:
            raise UsageError(
                f"The transitions of {ADVANCE}() are the rows of the run's table: none can be added or removed. To decide "
                f"otherwise pass Guards(...) to build; to do more add callbacks, such as on_enter_step."
            )


def _beside(own: Callable[..., None], value: CallbacksArg) -> CallbackList:
    """The run's own callback, once, then the others."""
    return [own, *(callback for callback in listify(value) if callback != own)]


# What the run settles for the library, so that nobody else can.
_SETTLED = frozenset(
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
    """The dispatcher's run as a machine of ``transitions``. The two share everything; either may make the next transition.

    Args:
        dispatcher: The run, wherever it stands.
        begin: Called before every visit; it must do nothing the second time.
        end: Called after every exception, and after a final state has been entered; likewise.
        finish: Called in its place after a final state has been entered; it may have the run stand in another state, from
            which it then goes on.
        options: What `GraphMachine` takes besides: ``name``, ``title``, ``graph_engine="graphviz"``, ``show_conditions=False``,
            callbacks such as ``after_state_change``. All callbacks are given an `EventData`.

    Raises:
        UsageError: An option that the run itself settles, such as ``queued``.

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
    settled = sorted(_SETTLED.intersection(options))
    if settled:
        raise UsageError(
            f"as_transitions({settled[0]}={options[settled[0]]!r}): the run itself settles that. It takes callbacks and what "
            f"concerns the drawing, such as title or graph_engine."
        )
    drawing = {"title": "fsmtrain", "graph_engine": "mermaid", "show_conditions": True}
    return RunMachine(RunModel(dispatcher, begin, end, finish or end), **{**drawing, **options})
