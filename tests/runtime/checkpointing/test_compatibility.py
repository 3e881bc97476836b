"""What resuming compares. The transition table is compared as it was folded for the saved configuration."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from fsmtrain import Guards, Loop, Options, Sizes, every_n_batches
from fsmtrain.core import effects, transition_guards, transition_table
from fsmtrain.core.decisions import Decisions
from fsmtrain.core.states import State
from fsmtrain.errors import ResumeError
from fsmtrain.runtime.checkpointing import compatibility
from fsmtrain.runtime.checkpointing.compatibility import check_table, saved_table

CONFIGURATIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"early_stop_callback": True, "val_check_interval": 0.5}, {}),
    ({"accumulate_grad_batches": {0: 2, 3: 4}}, {}),
    ({}, {"save": every_n_batches(3), "stop": every_n_batches(5), "step": {0: every_n_batches(2)}}),
]


def spec_of(flags: dict[str, Any], replaced: dict[str, Any]) -> Any:
    return Loop(Options(**flags), Sizes(train=8, val=[2]), guards=Guards(**replaced)).spec


@pytest.mark.parametrize(("flags", "replaced"), CONFIGURATIONS)
@pytest.mark.parametrize(("other_flags", "other_replaced"), CONFIGURATIONS)
def test_the_same_version_has_the_same_table_whatever_the_resumed_run_changes(
    flags: dict[str, Any], replaced: dict[str, Any], other_flags: dict[str, Any], other_replaced: dict[str, Any]
) -> None:
    check_table(saved_table(spec_of(flags, replaced)), spec_of(other_flags, other_replaced))


def with_another_row(*, is_folded_away: bool) -> Any:
    """Return `full_table` with one more first row, which a plain configuration folds away or not."""

    def changed(decide: Decisions) -> transition_table.Table:
        when = transition_guards.test_follows if is_folded_away else transition_guards.epoch_is_over
        row = transition_table.Row(State.SAVE, when=when, then=effects.next_split, to=State.DONE)
        return transition_table.Table((row, *transition_table.full_table(decide)))

    return changed


def test_a_new_row_that_the_saved_configuration_folds_away_keeps_its_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    saving = spec_of({}, {"save": every_n_batches(3)})
    saved = saved_table(saving)
    monkeypatch.setattr(compatibility, "full_table", with_another_row(is_folded_away=True))
    check_table(saved, saving)
    monkeypatch.setattr(compatibility, "full_table", with_another_row(is_folded_away=False))
    with pytest.raises(ResumeError, match=r"the transition table has changed .*'save -> done when epoch_is_over"):
        check_table(saved, saving)


def test_limits_that_the_checkpoint_does_not_know_take_the_values_of_this_run() -> None:
    spec = spec_of({}, {})
    saved = saved_table(spec)
    del saved["limits"]["rolls_back"]
    saved["limits"]["no_longer_a_limit"] = 1
    check_table(saved, spec)
    assert evolve(spec.limits) == spec.limits
