"""The state tree of a run that a checkpoint holds: the states of all owners. Anything that no owner has is lost on resume.

The file format is in `checkpoint_files`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve, fields

from fsmtrain.core.counters import Counters
from fsmtrain.core.effects import begin_pass
from fsmtrain.core.resume_point import ResumePoint, adopt_limits, limits_from
from fsmtrain.core.states import State
from fsmtrain.early_stopping import Patience
from fsmtrain.errors import ResumeError
from fsmtrain.runtime import rng
from fsmtrain.runtime.actions import Actions
from fsmtrain.runtime.checkpoint_files.tree_path import short_repr
from fsmtrain.runtime.checkpointing.changed_limits import SavedLimits, drop_unusable_positions
from fsmtrain.runtime.checkpointing.changed_settings import resume_settings
from fsmtrain.runtime.checkpointing.compatibility import (
    check_compatible,
    check_table,
    fingerprint,
    saved_table,
    warn_of_other_hparams,
)
from fsmtrain.runtime.checkpointing.model_state import model_owners
from fsmtrain.runtime.checkpointing.parameter_groups import add_missing_groups, parameter_groups, warn_of_lost_groups
from fsmtrain.runtime.checkpointing.save_top_k import RANKING, MetricRanking
from fsmtrain.runtime.checkpointing.state_owners import (
    REQUIRED,
    Owner,
    damaged_state_is_an_error,
    fields_of,
    listed,
    merged,
    on_device,
    owner_of,
)
from fsmtrain.runtime.model_files.hparams import plain_part
from fsmtrain.runtime.model_files.lightning_checkpoints import IMPORTED
from fsmtrain.runtime.model_files.weights import EVALUATED
from fsmtrain.runtime.optimization.window_weights import Window
from fsmtrain.runtime.rng import RngState
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.training.deferred_stop import batch_has_more_rounds
from fsmtrain.user_warnings import warn

VERSION = 2  # of the tree

# What the tree holds beside the states of the owners.
_ABOUT = ("version", "state", "work_done", "fingerprint", "table", "hparams", "rng")
_ABOUT_IF_MISSING = {
    "settings": None,  # checkpoints of before are not compared
    "parameter_groups": None,
    EVALUATED: None,  # for other uses than resuming
}

Tree = dict[str, Any]


def owners_of(components: RunComponents, run: RunState, actions: Actions, *, within_batch: bool = False) -> dict[str, Owner]:
    """Return the owners of a run's state, in the order in which they are loaded.

    `within_batch` says whether a batch is under way whose splits and hiddens are needed to continue.
    """
    device, patience = components.device, run.early_stopping
    signals = [name for name in fields_of(run.signals).state_dict() if name != "stop_requested"]  # a request is not saved

    limits = components.spec.limits
    nothing = {"left_out": [0 for _ in run.windows], "steps_made": 1, "batches_waited": 0}
    # In older runs each epoch was as long as the first.
    counts = {"epoch_batches": limits.train_batches, "epoch_val_check_batches": limits.val_check_batches}
    seen = {"epoch_length": limits.train_batches, "epoch_val_interval": limits.val_check_batches}

    def load_loaders(states: Tree) -> None:
        for name, loader in run.loaders.by_name.items():
            if name in states:  # others begin at their beginning
                loader.load_state_dict(states[name])
        actions.resume_epoch()

    def load_eval_passes(states: Tree) -> None:
        for state, eval_pass in actions.eval_passes.items():
            eval_pass.load_state_dict(states.get(state.value))  # the saved run may have had no test, say

    no_batch: dict[str, Any] = {"hiddens": [None for _ in run.hiddens], "splits": [], "batch": None}
    no_batch |= {"outputs": [None for _ in run.hiddens]}
    batch = fields_of(run, no_batch, if_missing={name: no_batch[name] for name in ("batch", "outputs")})
    if not within_batch:
        batch = evolve(batch, state_dict=lambda: no_batch)
    metrics = fields_of(run, ("metrics", "progress_bar_metrics", "validation_metrics", "validation_epoch"))
    eval_passes = Owner(lambda: {s.value: p.state_dict() for s, p in actions.eval_passes.items()}, load_eval_passes)
    callbacks, checkpoint_hooks = components.stateful_callbacks, components.hooks.checkpoint
    added = Owner(dict, lambda state: None) if checkpoint_hooks is None else owner_of(checkpoint_hooks)
    return {
        "hooks": evolve(added, if_missing={}),
        "counters": _counters_owner(run.counters, if_missing={**nothing, **counts}),
        "signals": fields_of(
            run.signals,
            signals,
            if_missing={"loss_is_none": False, "own_steps": 1, "time_is_up": False, **seen},
            keeps_types=True,
        ),
        "early_stopping": _optional(_patience_owner(patience) if patience is not None else None),
        "clock": evolve(owner_of(run.clock), if_missing={"seconds": 0.0}),
        "manual_steps": evolve(fields_of(run, ("manual_steps",)), if_missing={"manual_steps": 0}),
        "nonfinite": owner_of(run.nonfinite),
        "windows": on_device(listed(map(_window_owner, run.windows)), device),
        "batch": on_device(batch, device),
        "metrics": on_device(metrics, device),
        "epoch_metrics": evolve(on_device(owner_of(run.epoch_metrics), device), if_missing={"state": None, "is_on_device": []}),
        "metric_objects": evolve(on_device(owner_of(run.metric_objects), device), if_missing={"state": {}, "is_on_device": []}),
        **model_owners(components),
        "scalers": _optional(owner_of(actions.scalers) if actions.scalers is not None else None),
        "loaders": Owner(lambda: {n: loader.state_dict() for n, loader in run.loaders.by_name.items()}, load_loaders),
        "eval_passes": on_device(eval_passes, device),
        "sanity_pass": _optional(owner_of(actions.sanity_pass) if actions.sanity_pass is not None else None),
        "callbacks": Owner(
            lambda: [{"class": _class_name(c), "state": c.state_dict()} for c in callbacks],
            lambda states: _load_callbacks(states, components),
        ),
        "data_module": evolve(_data_module_owner(components.data_module), if_missing=None),
    }


def _window_owner(window: Window) -> Owner:
    """Return the owner of a window. Older checkpoints have the first weight of an open window in place of its unit."""
    owner = fields_of(window)

    def load(state: Tree) -> None:
        first_weight = state.get("first_weight")
        unit = {"unit": 1.0 if first_weight is None else first_weight} if "first_weight" in state else {}
        owner.load_state_dict({name: value for name, value in state.items() if name != "first_weight"} | unit)

    return evolve(owner, load_state_dict=load)


def _patience_owner(patience: Patience) -> Owner:
    """Return the owner of early stopping's memory, which is not taken over by one of another metric or mode."""
    rule = patience.rule
    owner = fields_of(patience, ("best", "wait"))

    def load(state: Tree) -> None:
        saved = {name: state.get(name, getattr(rule, name)) for name in ("monitor", "mode")}
        owner_state = {name: value for name, value in state.items() if name not in saved}
        if saved == {"monitor": rule.monitor, "mode": rule.mode}:
            owner.load_state_dict(owner_state)
            return
        patience.best, patience.wait = Patience(rule).best, 0
        warn(
            f"early stopping begins anew: it monitors {rule.monitor!r} in mode {rule.mode!r}, and in the checkpoint "
            f"{saved['monitor']!r} in mode {saved['mode']!r}. The best value so far was {short_repr(state.get('best'))}."
        )

    return evolve(
        owner, state_dict=lambda: {**owner.state_dict(), "monitor": rule.monitor, "mode": rule.mode}, load_state_dict=load
    )


def take_run_snapshot(components: RunComponents, run: RunState, actions: Actions, at: ResumePoint) -> Tree:
    """Return the state of everything, as it is now. Tensors are the run's own, not copies.

    If a pass is under way whose outputs cannot be saved, this is the run at the beginning of that pass.
    """
    within_batch = at.state is State.ROUND_END and batch_has_more_rounds(components, run, at.counters)
    states = {
        name: owner.state_dict() for name, owner in owners_of(components, run, actions, within_batch=within_batch).items()
    }
    groups = parameter_groups(components)
    if run.settings is not None:
        warn_of_lost_groups(groups, run.settings)
    random = rng.get_rng_state()
    passes: dict[str, Tree | None] = states["eval_passes"]["state"]
    begins_again = [name for name, state in passes.items() if state is not None and state["begins_again"] is not None]
    if begins_again:
        snapshot = actions.eval_passes[State(begins_again[0])].snapshot
        assert snapshot is not None
        counters = at.counters.copy()
        begin_pass(components.spec.limits, counters)
        at, random = evolve(at, work_done=False, counters=counters), snapshot.random
        for saved, before in zip(states["callbacks"], snapshot.callbacks, strict=False):
            saved["state"] = before
        if snapshot.data_module is not None:
            states["data_module"] = snapshot.data_module
        if snapshot.hooks is not None:
            states["hooks"] = snapshot.hooks
        states["metric_objects"] = {"state": snapshot.metric_objects, "is_on_device": []}
        states["loaders"] |= {n: snapshot.positions[ld] for n, ld in run.loaders.by_name.items() if ld in snapshot.positions}
    return {
        "version": VERSION,
        "state": at.state.value,
        "work_done": at.work_done,
        "fingerprint": fingerprint(components),
        "table": saved_table(actions.spec),
        "hparams": plain_part(getattr(components.model, "hparams", None)),
        "rng": random.state_dict(),
        "settings": None if run.settings is None else run.settings.in_force,
        "parameter_groups": groups,
        **states,
        "counters": _counters_owner(at.counters).state_dict(),
        **_evaluated_weights(components),
    }


def _evaluated_weights(components: RunComponents) -> Tree:
    """Return the weights with which the model is validated, if a callback has others than the model's."""
    for callback in components.stateful_callbacks:
        weights = callback.evaluated_weights() if hasattr(callback, "evaluated_weights") else None
        if weights is not None:
            return {EVALUATED: weights}
    return {}


def load_run_snapshot(
    tree: Tree, components: RunComponents, run: RunState, actions: Actions, *, strict: bool, new_settings: bool = False
) -> tuple[ResumePoint, RngState]:
    """Restore a run from a state tree. No visit is under way, and temporary changes have been released.

    `new_settings` says whether optimizers and schedulers keep the settings of this run.

    Returns:
        The resume point, and the RNG states, which the caller must set last (restoring loaders consumes random numbers).

    Raises:
        ResumeError: The tree does not fit this run. Unless `strict`, only what cannot be loaded is refused.
    """
    if IMPORTED in tree:
        raise ResumeError(
            f"it was imported from {tree[IMPORTED]['file']!r}, which lacks the position of its run, so no run can continue "
            f"from it. Begin one with its weights: Model.load_from_checkpoint(path), or fsmtrain fit --weights PATH."
        )
    if tree.get("version") != VERSION:
        raise ResumeError(
            f"its state has version {tree.get('version')!r} and this fsmtrain reads version {VERSION}: resume it with the "
            f"fsmtrain that saved it, or begin a run with its weights (Model.load_from_checkpoint(path))."
        )
    owners = owners_of(components, run, actions)
    known = dict.fromkeys(_ABOUT, REQUIRED) | _ABOUT_IF_MISSING | {name: owner.if_missing for name, owner in owners.items()}
    states = merged(tree, known)
    check_compatible(states["fingerprint"], fingerprint(components), strict=strict)
    warn_of_other_hparams(states["hparams"], plain_part(getattr(components.model, "hparams", None)))
    saved = SavedLimits(states["table"])
    saved.require_same_optimization(components.spec)
    if strict:
        check_table(states["table"], components.spec)
    drop_unusable_positions(states, components, run, saved, strict=strict)
    if states["parameter_groups"] is not None:
        add_missing_groups(states["parameter_groups"], states["optimizers"], components)
    for name, owner in owners.items():
        with damaged_state_is_an_error(name):
            owner.load_state_dict(states[name])
    _expect_an_epoch(run.counters)
    if run.settings is not None and states["settings"] is not None:
        resume_settings(run.settings, states["settings"], take_new=new_settings)
    patience = run.early_stopping
    run.signals.patience_exhausted = patience is not None and patience.exhausted  # by this run's rule
    actions.look_at_the_clock()
    if type(states["work_done"]) is not bool:
        raise ResumeError("its work_done is neither true nor false, so fsmtrain did not save it.")
    at = ResumePoint(
        state=State(states["state"]),
        work_done=states["work_done"],
        counters=run.counters,
        signals=run.signals,
        validations_waited=0 if patience is None else patience.wait,
        limits_differ=saved.differ_from(components.spec),
    )
    spec = components.spec
    adopted = adopt_limits(at, spec.limits, spec.guards)
    if adopted.limits_differ:
        saved.rescale_open_windows(components, run, states["counters"], adopted, limits_from(spec.limits, adopted))
    for record, values in ((run.counters, adopted.counters), (run.signals, adopted.signals)):
        for field in fields(type(record)):
            setattr(record, field.name, getattr(values, field.name))
    return adopted, RngState.from_state_dict(states["rng"])


def _expect_an_epoch(counters: Counters) -> None:
    """Check that the current epoch is the one under way or the last one that is done: with another, no epoch would be the last.

    `epoch_is_finished` asks for it, and the proofs hold it of every run (`an_epoch_is_in_progress_or_just_done`).
    """
    if counters.epochs_done - counters.current_epoch not in (0, 1):
        raise ResumeError(
            f"its counters contradict each other, so fsmtrain did not save it: current_epoch={counters.current_epoch} and "
            f"epochs_done={counters.epochs_done}. The current epoch is either the next one or the last that is done."
        )


def _counters_owner(counters: Counters, *, if_missing: Mapping[str, Any] | None = None) -> Owner:
    """Return the owner of all counters but `ending`: a run that is resumed from its end may go on."""
    return fields_of(
        counters, [f.name for f in fields(Counters) if f.name != "ending"], if_missing=if_missing, keeps_types=True
    )


def _optional(owner: Owner | None) -> Owner:
    """Return the owner of something that this run may not have; its state is None then, and so is a state not taken over."""
    if owner is None:
        return Owner(lambda: None, lambda state: None)
    return Owner(owner.state_dict, lambda state: None if state is None else owner.load_state_dict(state))


def _data_module_owner(data_module: Any) -> Owner:
    """Return the owner of the state of a data module, or of None, which warns of a state that is not taken over."""
    if data_module is not None:
        return _optional(owner_of(data_module))

    def drop(state: Any) -> None:
        if state is not None:
            warn(
                "datamodule: the checkpoint has the state of a data module, and this run has none with load_state_dict, so "
                "that state is dropped. Pass the same data module."
            )

    return Owner(lambda: None, drop)


def _load_callbacks(states: list[Tree], components: RunComponents) -> None:
    rankings = [callback for callback in components.stateful_callbacks if isinstance(callback, MetricRanking)]
    _load_rankings([state["state"] for state in states if state["class"] == RANKING], rankings)
    callbacks = [callback for callback in components.stateful_callbacks if not isinstance(callback, MetricRanking)]
    states = [state for state in states if state["class"] != RANKING]
    saved, present = [state["class"] for state in states], [_class_name(callback) for callback in callbacks]
    if saved != present:
        raise ResumeError(f"callbacks: those with a state_dict are {present}, and the checkpoint has {saved}. Pass the same.")
    for callback, state in zip(callbacks, states, strict=True):
        callback.load_state_dict(state["state"])


def _load_rankings(states: list[Tree], rankings: Sequence[MetricRanking]) -> None:
    """Take the ranks of checkpoints over: by metric and mode, where a run has several rules, or has others than before."""
    if len(states) == len(rankings) == 1:
        rankings[0].load_state_dict(states[0])
        return
    for state in states:
        ranked_alike = [r for r in rankings if (r.metric, r.mode) == (state["monitor"], state.get("mode", r.mode))]
        for ranking in ranked_alike:
            ranking.load_state_dict(state)
        if not ranked_alike:
            warn(f"no ModelCheckpoint ranks by {state['monitor']!r} any more: the checkpoints so far have no rank by it.")


def _class_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
