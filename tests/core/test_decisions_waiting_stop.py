"""A stop that is due while windows are open: it waits for at most the longest window, and it always comes."""

from __future__ import annotations

from itertools import islice, product
from typing import Any

import pytest
import torch

from fsmtrain import EarlyStopping, Guards, Loop, Options, Sizes, State, after_batches, every_n_batches, every_n_steps_of
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.stop_reasons import StopReason
from tests.models import Adversaries, batches, machine_of

APART = Guards(step={0: every_n_batches(2), 1: every_n_batches(2, first=0)}, stop=after_batches(3))


def loop_of(guards: Guards, train: int | None = 20, *, optimizers: int = 2, **flags: Any) -> Loop:
    return Loop(Options(min_nb_epochs=0, max_nb_epochs=1, **flags), Sizes(train=train, optimizers=optimizers), guards=guards)


def steps(loop: Loop) -> list[tuple[int, int]]:
    """The batch and the optimizer of each step."""
    return [(visit.batch_nb, visit.optimizer_i) for visit in loop if visit.state is State.STEP]


@pytest.mark.parametrize(
    ("first", "second", "due"),
    list(product((every_n_batches(1), every_n_batches(3), every_n_batches(4, first=0)),
                 (every_n_batches(2), every_n_batches(5, first=2), every_n_steps_of(0, 2)), range(1, 7))),
)  # fmt: skip
def test_a_stop_comes_at_the_first_batch_without_open_windows_or_after_the_longest_window(
    first: Any, second: Any, due: int
) -> None:
    guards = {0: first, 1: second}
    loop = loop_of(Guards(step=guards, stop=after_batches(due)))
    waited = 0
    for batch_nb, open_windows in windows_after(loop_of(Guards(step=guards))):  # of a run that does not stop
        if batch_nb + 1 >= due and (not open_windows or waited > loop.limits.longest_window):
            break
        waited += batch_nb + 1 >= due
    *_, (last, still_open) = windows_after(loop)
    assert (last, still_open) == (batch_nb, set())


def windows_after(loop: Loop) -> list[tuple[int, set[int]]]:
    """The optimizers whose window is open after each batch."""
    found: dict[int, set[int]] = {}
    open_windows: set[int] = set()
    for visit in loop:
        if visit.state is State.BACKWARD:
            open_windows |= {visit.optimizer_i}
        elif visit.state is State.STEP:
            open_windows -= {visit.optimizer_i}
        elif visit.state is State.ROUND_END:
            found[visit.batch_nb] = {*open_windows}
    return [*found.items()]


def test_windows_that_never_close_together_are_closed_by_the_batch_after_the_longest_window() -> None:
    # Due at the end of batch 2. Batches 3 and 4 are waited for; batch 5 closes both windows, then the run ends.
    assert steps(loop_of(APART)) == [(0, 1), (1, 0), (2, 1), (3, 0), (4, 1), (5, 0), (5, 1)]


def test_a_stream_stops_as_well() -> None:
    guards = Guards(step={0: every_n_batches(2), 1: lambda limits, counters, signals: False}, stop=after_batches(3))
    visits = [*islice(loop_of(guards, None), 1000)]
    assert [visit.batch_nb for visit in visits if visit.state is State.EPOCH_END] == [5]


def test_a_guard_of_the_user_s_own_is_waited_for_up_to_the_epoch_s_end() -> None:
    def seldom(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batch_nb == 14

    assert loop_of(Guards(step={0: seldom}, stop=after_batches(2)), optimizers=1).limits.longest_window == 20
    assert steps(loop_of(Guards(step={0: seldom}, stop=after_batches(2)), optimizers=1)) == [(14, 0)]


def test_a_stop_guard_that_holds_once_stops_the_run_although_a_window_was_open() -> None:
    loop = loop_of(Guards(stop=every_n_batches(3)), optimizers=1, accumulate_grad_batches=2)
    assert steps(loop) == [(1, 0), (3, 0)]


def test_a_batch_of_several_splits_closes_its_windows_at_the_last_one() -> None:
    guards = Guards(step={0: every_n_batches(2), 1: every_n_batches(2, first=0)}, stop=after_batches(1))
    loop = Loop(
        Options(min_nb_epochs=0, max_nb_epochs=1, truncated_bptt_steps=2), Sizes(train=9, optimizers=2, splits=3), guards=guards
    )
    found = [(visit.batch_nb, visit.split_nb, visit.optimizer_i) for visit in loop if visit.state is State.STEP]
    assert found == [(0, 2, 1), (1, 2, 0), (2, 2, 1), (3, 2, 0), (3, 2, 1)]


def test_windows_that_a_stop_closes_early_are_stepped_with_their_mean() -> None:
    torch.manual_seed(0)
    machine = machine_of(Adversaries(), batches(20), min_nb_epochs=0, max_nb_epochs=1, guards=APART)
    torch.manual_seed(0)
    model = Adversaries()
    optimizers = model.configure_optimizers()
    losses = [model.generator_loss, model.discriminator_loss]
    machine.run()
    groups = [list(optimizer.param_groups[0]["params"]) for optimizer in optimizers]
    pending: list[list[Any]] = [[], []]
    closes = {0: {1: 2, 3: 2, 5: 2}, 1: {0: 1, 2: 2, 4: 2, 5: 1}}
    for batch_nb, batch in enumerate(batches(20)):
        if batch_nb > 5:
            break
        for i, optimizer in enumerate(optimizers):
            pending[i].append(torch.autograd.grad(losses[i](batch), groups[i]))
            if batch_nb in closes[i]:
                assert len(pending[i]) == closes[i][batch_nb]
                for parameter, *gradients in zip(groups[i], *pending[i], strict=True):
                    parameter.grad = torch.stack(gradients).mean(0)
                optimizer.step()
                pending[i] = []
    for trained, by_hand in zip(machine.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(trained, by_hand)
    assert machine.stop_reason is StopReason.STOP_GUARD


def test_check_names_windows_that_never_close_together_where_a_run_may_stop() -> None:
    [finding] = loop_of(APART).check().findings
    assert finding.about == "windows of 2 optimizers"
    assert "never close together" in finding.text
    assert "waits for 2 batches" in finding.text
    together = Guards(step={0: every_n_batches(2), 1: every_n_batches(4)}, stop=after_batches(3))
    assert not loop_of(together).check().findings
    assert not loop_of(Guards(step=APART.step)).check().findings  # nothing stops such a run early


def test_patience_that_recovers_while_the_stop_waits_does_not_take_it_back() -> None:
    rule = EarlyStopping(patience=1)
    loop = Loop(
        Options(min_nb_epochs=0, max_nb_epochs=1, early_stop_callback=rule, val_check_interval=1, nb_sanity_val_steps=0),
        Sizes(train=20, val=[1], optimizers=2),
        guards=Guards(step=APART.step),
    )
    found = []
    for visit in loop:
        if visit.state is State.VAL_CHECK:
            visit.signals.patience_exhausted = visit.batch_nb == 2
        found.append(visit.batch_nb)
    assert [nb for nb in found if nb is not None][-1] == 5
