"""Resume with other limits, loaders or guards than the saved run had: what of the saved state is dropped or rescaled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve, fields

from fsmtrain.core.accumulation_scaling import loss_divisor
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.limits import Limits
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.resume_point import ResumePoint
from fsmtrain.core.states import State
from fsmtrain.core.transition_guards import never
from fsmtrain.errors import ResumeError
from fsmtrain.runtime.optimization.window_weights import rescale_gradients
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.user_warnings import warn

Tree = dict[str, Any]

# The values of limits that older checkpoints do not have.
_NEWER_LIMITS = (
    *("may_return_none", "has_own_step", "saves_end", "is_past_last_epoch", "begins_in_window", "manual_optimization"),
)
_LIMITS_BEFORE = dict.fromkeys(_NEWER_LIMITS, False)
_REPLACEABLE = ("validate", "save", "stop")


class SavedLimits:
    """The limits of a saved run, and which guards its user had replaced.

    Args:
        table: What `compatibility.saved_table` returned.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.values: Mapping[str, Any] = table["limits"]
        self._replaced = set(table["replaced"])

    @property
    def guards(self) -> Guards:
        """Guards that replace the same decisions as those of the saved run; what they answered is unknown."""
        steps = {int(name.removeprefix("step ")): never for name in self._replaced if name.startswith("step ")}
        others: dict[str, Any] = {name: never for name in _REPLACEABLE if name in self._replaced}
        return Guards(step=steps, **others)

    def applied_to(self, limits: Limits) -> Limits:
        """Return the limits of the saved run, with this run's for what they did not say."""
        known = {field.name for field in fields(Limits)}
        saved = {name: _with_tuples(value) for name, value in self.values.items() if name in known}
        return evolve(limits, **{**_LIMITS_BEFORE, **saved})

    def require_same_optimization(self, spec: LoopSpec) -> None:
        """Check that both runs optimize manually, or both automatically.

        Raises:
            ResumeError: They do not.
        """
        was_manual = bool(self.values.get("manual_optimization"))
        if was_manual is not spec.limits.manual_optimization:
            raise ResumeError(
                f"automatic_optimization={was_manual}: the run was saved with {not was_manual}. Its windows and steps cannot "
                f"be continued. Use the saved value, or begin a run with its weights (Model.load_from_checkpoint(path))."
            )

    def differ_from(self, spec: LoopSpec) -> bool:
        """Return whether the limits, or the decisions that are replaced, are others now."""
        return self.applied_to(spec.limits) != spec.limits or self._replaced != replaced_decisions(spec.guards)

    def loaders_of(self, state: State) -> tuple[int | None, ...] | None:
        """Return the batches of each loader of a pass; None for a state that is none."""
        name = {"sanity": "sanity_loaders", "val": "val_loaders", "test": "test_loaders"}.get(state.info.eval_pass or "")
        return None if name is None else _with_tuples(self.values[name])

    def rescale_open_windows(
        self, components: RunComponents, run: RunState, saved: Mapping[str, Any], at: ResumePoint, limits: Limits
    ) -> None:
        """Rescale the gradients of open windows, so that they go on as windows of these limits.

        Each loss was divided by the length that its window was expected to have (`loss_divisor`). Gradients whose losses have
        weights are scaled by the weights instead, and stay as they are.

        Args:
            components: What the run is made of.
            run: Its state; the gradients have been loaded.
            saved: The counters of the saved run.
            at: Where this run resumes.
            limits: Its limits.
        """
        before = self.applied_to(components.spec.limits)
        for slot in components.slots:
            counters = at.counters.copy()
            counters.gathered = counters.gathered_by[slot.index] if slot.index != counters.optimizer_i else counters.gathered
            counters.optimizer_i = slot.index
            if counters.gathered == 0 or run.windows[slot.index].total_weight is not None:
                continue
            new = loss_divisor(limits, components.spec.guards, counters)
            counters.window_length = saved["window_length"]
            counters.epoch_batches = saved.get("epoch_batches", before.train_batches)
            old = loss_divisor(before, self.guards, counters)
            if old != new:
                rescale_gradients(slot.parameters, old / new)


def replaced_decisions(guards: Guards) -> set[str]:
    """Return the decisions that the user has replaced."""
    return {f"step {i}" for i in guards.step} | {name for name in _REPLACEABLE if getattr(guards, name) is not None}


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, (list, tuple)) else value


def drop_unusable_positions(
    states: Tree, components: RunComponents, run: RunState, saved: SavedLimits, *, strict: bool
) -> None:
    """Remove, from a state tree, positions in loaders that this run does not have.

    Val and test loaders may be others than before. They begin at their beginning, and so does a pass over them that was under
    way. The train loader may be another only between two epochs, and only unless `strict`.
    """
    state, positions = State(states["state"]), dict(states["loaders"])
    states["loaders"] = positions
    dropped = {}
    for name, loader in run.loaders.by_name.items():
        mismatch = loader.mismatch(positions[name]) if name in positions else None
        if mismatch is None:
            continue
        if name == "train" and (strict or positions[name]["is_under_way"]):
            continue  # it is refused when it is loaded
        dropped[name] = mismatch
        del positions[name]
    for name, mismatch in dropped.items():
        warn(f"{name} loader: its saved position does not fit ({mismatch}), so it begins at its beginning.")
    pass_loaders = saved.loaders_of(state)
    if pass_loaders is None:
        return
    kind = "test" if state is State.TEST else "val"
    now = {"sanity": "sanity_loaders", "val": "val_loaders", "test": "test_loaders"}[state.info.eval_pass or ""]
    is_same = pass_loaders == getattr(components.spec.limits, now) and not any(name.startswith(kind) for name in dropped)
    if not is_same or state not in components.spec.table.states:
        _begin_pass_again(states, components, state, kind)


def _begin_pass_again(states: Tree, components: RunComponents, state: State, kind: str) -> None:
    """Change a state tree that was saved within a pass to one in which the pass has not begun."""
    for name in [name for name in states["loaders"] if name.startswith(kind)]:
        del states["loaders"][name]
    passes = states["eval_passes"] = {**states["eval_passes"], "state": dict(states["eval_passes"]["state"])}
    saved_pass = passes["state"].get(state.value)
    passes["state"][state.value] = None
    if saved_pass is not None:  # the modes from before the pass
        names = [name for name, _ in components.model.named_modules()]
        states["modes"] = dict(zip(names, saved_pass["modes"], strict=False))
    states["counters"] = {**states["counters"], "eval_nb": 0}
    states["work_done"] = False
    what = {State.SANITY_VAL: "sanity pass", State.VAL_CHECK: "validation"}.get(state, "test")
    if state is State.SANITY_VAL:
        states["state"] = State.START.value
        before = (states["sanity_pass"] or {}).get("rng_before")
        if before is not None:
            states["rng"], states["sanity_pass"] = before["rng"], {"rng_before": None}
    elif state not in components.spec.table.states and state is State.VAL_CHECK:
        states["state"], states["work_done"] = State.ROUND_END.value, True
        warn(f"the run was saved within a {what}, and has no val loaders now: that {what} is left out.")
        return
    warn(f"the run was saved within a {what}, and its loaders are others now: that {what} begins again at its first batch.")
