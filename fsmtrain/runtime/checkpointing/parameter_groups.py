"""Parameter groups that were added on the way, as when layers are unfrozen: a checkpoint names them, to add them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fsmtrain.errors import ResumeError
from fsmtrain.plurals import plural
from fsmtrain.runtime.optimization.optimizer_settings import OptimizerSettings
from fsmtrain.runtime.run_state import RunComponents
from fsmtrain.user_warnings import warn

Names = list[list[list[str | None]]]  # of each optimizer: of each group: of each parameter; None for one outside of the model


def parameter_groups(components: RunComponents) -> Names:
    """Return the names of the parameters in each optimizer's groups."""
    names = {id(parameter): name for name, parameter in components.model.named_parameters()}
    return [
        [[names.get(id(parameter)) for parameter in group["params"]] for group in optimizer.param_groups]
        for optimizer in components.optimizers
    ]


def warn_of_lost_groups(groups: Names, settings: OptimizerSettings) -> None:
    """Warn once if a group was added that a resumed run cannot add again."""
    for i, (own, built) in enumerate(zip(groups, settings.groups, strict=True)):
        if any(None in group for group in own[len(built) :]) and not settings.has_warned:
            settings.has_warned = True
            warn(
                f"optimizer {i}: a parameter group was added during the run whose parameters are not the model's, so no "
                f"resumed run can add it again: this checkpoint will be refused. Make the parameters part of the model, or "
                f"return the group from configure_optimizers."
            )


def add_missing_groups(saved: Names, states: Sequence[dict[str, Any]], components: RunComponents) -> None:
    """Add the parameter groups that the saved run had added to its optimizers, and check that the others are the same.

    Args:
        saved: What `parameter_groups` returned.
        states: The saved state of each optimizer, with the options of each group.
        components: What this run is made of.

    Raises:
        ResumeError: The groups differ in another way.
    """
    parameters = dict(components.model.named_parameters())
    now = parameter_groups(components)
    for slot, groups, own, state in zip(components.slots, saved, now, states, strict=False):
        name = f"optimizer {slot.index} ({type(slot.optimizer).__name__})"
        if len(own) > len(groups):
            raise ResumeError(
                f"{name}: it has {plural(len(own), 'parameter group')}, checkpoint has {len(groups)}. If the run adds a group "
                f"on its way, let it do so in a hook, not in configure_optimizers: it is added again on resume."
            )
        for number, group in enumerate(groups[len(own) :], len(own)):
            missing = [parameter for parameter in group if parameter is None or parameter not in parameters]
            if missing:
                raise ResumeError(
                    f"{name}, group {number}: the saved run had added this group of {plural(len(group), 'parameter')}, and "
                    f"this model lacks {missing[0] or 'some of them'}. Return the group from configure_optimizers, or resume "
                    f"from a checkpoint before it was added."
                )
            options = {key: value for key, value in state["param_groups"][number].items() if key != "params"}
            slot.optimizer.add_param_group({**options, "params": [parameters[parameter] for parameter in group if parameter]})
