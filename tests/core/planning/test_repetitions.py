"""A run with its repetitions skipped has the epochs and the end of the run without, whatever the guards look at."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from fsmtrain import Guards, Options, Sizes, after_batches, after_steps, every_n_batches, every_n_steps_of
from fsmtrain.core.counters import Counters, Signals, signal_values
from fsmtrain.core.limits import Limits
from fsmtrain.core.loop_spec import LoopSpec
from fsmtrain.core.planning import compute_plan
from fsmtrain.core.planning.compute_plan import simulate
from fsmtrain.core.planning.epoch_builder import Epoch
from fsmtrain.core.planning.simulation import Simulation
from fsmtrain.core.transition_guards import Guard


def all_epochs(run: Simulation) -> list[Epoch]:
    """The epochs of a simulated run, one by one."""
    return [epoch for count, stretch in run.epochs for _ in range(count) for epoch in stretch]


# ---- guards that look at growing counters, in ways that no built-in one does


def at_one_moment(n: int) -> Guard:
    def is_at_it(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batches_begun == n

    return is_at_it


def in_turn(n: int, r: int) -> Guard:
    def is_in_turn(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.batches_begun % n <= r < counters.batch_nb + 3

    return is_in_turn


def in_blocks(n: int) -> Guard:
    def is_in_block(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.global_step // n % 2 == 1 and counters.batch_nb != 7

    return is_in_block


def overtaken(n: int) -> Guard:
    def is_overtaken(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return 3 * counters.validations_done - counters.current_epoch > counters.optimizer_steps[0] - n

    return is_overtaken


def longer_than(n: int) -> Guard:
    def is_longer(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return counters.gathered > n or counters.round_nb - counters.stepped_in[0] >= 2 * n

    return is_longer


small = st.integers(1, 40)
far = st.integers(1, 900)
own_guards = st.one_of(
    st.builds(every_n_batches, small),
    st.builds(every_n_batches, far, first=st.integers(0, 50)),
    st.builds(after_batches, far),
    st.builds(after_steps, far),
    st.builds(at_one_moment, far),
    st.builds(in_turn, small, st.integers(0, 5)),
    st.builds(in_blocks, small),
    st.builds(overtaken, far),
    st.builds(longer_than, small),
    st.builds(every_n_steps_of, st.just(0), small),
)


@st.composite
def loops(draw: st.DrawFn) -> LoopSpec:
    """Loops that are long enough for something to repeat itself."""
    train, optimizers, most = draw(st.integers(1, 300)), draw(st.integers(1, 3)), draw(st.integers(1, 9))
    options = Options(
        max_nb_epochs=most,
        min_nb_epochs=draw(st.integers(0, most)),
        accumulate_grad_batches=draw(small | st.dictionaries(st.integers(0, 5), small, min_size=1, max_size=3)),
        truncated_bptt_steps=draw(st.sampled_from([None, None, 5])),
        val_check_interval=draw(st.integers(1, train) | st.sampled_from([1.0, 0.95, 0.5, 0.25, 0.1])),
        check_val_every_n_epoch=draw(st.integers(1, 3)),
        early_stop_callback=draw(st.booleans()),
    )
    sizes = Sizes(
        train=train,
        val=draw(st.sampled_from([[], [1], [3], [20, 30]])),
        test=draw(st.sampled_from([[], [40]])),
        optimizers=optimizers,
        splits=draw(st.integers(1, 4)),
    )
    maybe = st.none() | st.none() | own_guards
    guards = Guards(
        step=draw(st.dictionaries(st.integers(0, optimizers - 1), own_guards, max_size=optimizers)),
        validate=draw(maybe),
        save=draw(maybe),
        stop=draw(maybe),
    )
    return LoopSpec(options, sizes, guards=guards)


def patient(*, least: int, every: int) -> LoopSpec:
    """A loop that has lost patience long before it may stop, and may do so at the end of an epoch without a check."""
    options = Options(
        max_nb_epochs=40, min_nb_epochs=least, check_val_every_n_epoch=every, val_check_interval=1.0, early_stop_callback=True
    )
    return LoopSpec(options, Sizes(train=4, val=[1]))


def outcome(loop: LoopSpec, exhausted_after: int | None = None, *, skip: bool) -> tuple[object, ...]:
    """The epochs of a loop one by one, and its end."""
    run = simulate(loop, exhausted_after, skip=skip)
    epochs = all_epochs(run)
    return epochs, run.counters.values(), run.sanity_batches, run.test_batches


def on_patience(limits: Limits, counters: Counters, signals: Signals) -> bool:
    return signals.patience_exhausted


def test_a_trial_in_which_a_signal_changes_is_not_repeated() -> None:
    """Patience is exhausted at the end of epoch 3, which is tried after three equal ones."""
    options = Options(max_nb_epochs=40, min_nb_epochs=40, early_stop_callback=True, val_check_interval=1.0)
    loop = LoopSpec(options, Sizes(train=4, val=[1]), guards=Guards(save=on_patience))
    assert outcome(loop, 4, skip=True) == outcome(loop, 4, skip=False)


@given(loops(), st.none() | st.integers(1, 60), st.sampled_from([32, 1]))
@example(LoopSpec(Options(max_nb_epochs=3), Sizes(train=300), guards=Guards(save=at_one_moment(777))), None, 1)
@example(patient(least=21, every=2), 3, 32)
def test_a_run_with_skips_is_the_run_without(loop: LoopSpec, exhausted_after: int | None, min_skipped: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute_plan, "MIN_SKIPPED_BATCHES", min_skipped)
        assert outcome(loop, exhausted_after, skip=True) == outcome(loop, exhausted_after, skip=False)


@pytest.mark.parametrize("length", [1, 9])
def test_no_skip_goes_beyond_the_one_moment_at_which_a_guard_answers_otherwise(length: int) -> None:
    """Also if that is in the middle of an epoch that comes after many equal ones."""
    for n in range(1, 10 * 64 + 5, 13):
        options = Options(max_nb_epochs=10, accumulate_grad_batches=length)
        run = simulate(LoopSpec(options, Sizes(train=64), guards=Guards(save=at_one_moment(n))))
        epochs = all_epochs(run)
        assert [64 * i + nb + 1 for i, epoch in enumerate(epochs) for nb in epoch.saves] == ([n] if n <= 640 else [])


def test_a_guard_that_fires_earlier_in_later_epochs_fires_at_the_right_batch() -> None:
    """One counter grows with the batches and another with the epochs, so the end of a skip moves from epoch to epoch."""

    def comes_earlier(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return 10 * counters.batch_nb + counters.current_epoch > 995

    loop = LoopSpec(Options(max_nb_epochs=40), Sizes(train=128), guards=Guards(save=comes_earlier))
    epochs = all_epochs(simulate(loop))
    assert [epoch.saves[0] for epoch in epochs] == [(995 - epoch) // 10 + 1 for epoch in range(40)]
    assert outcome(loop, skip=True) == outcome(loop, skip=False)


@pytest.mark.parametrize("after", range(3, 9))
def test_patience_that_is_exhausted_in_a_trial_is_not_exhausted_before_the_run_comes_to_it(after: int) -> None:
    options = Options(max_nb_epochs=10, min_nb_epochs=0, val_check_interval=0.5, early_stop_callback=True)
    loop = LoopSpec(options, Sizes(train=4, val=[1]))
    assert sum(len(epoch.validations) for epoch in all_epochs(simulate(loop, after))) == after
    assert outcome(loop, after, skip=True) == outcome(loop, after, skip=False)


class Remembering:
    """A guard that counts its calls, and answers by that alone. It keeps what it was shown."""

    copies: ClassVar[list[Remembering]] = []

    def __init__(self, period: int, holds: frozenset[int], until: int) -> None:
        self.period, self.holds, self.until = period, holds, until
        self.shown: list[tuple[object, ...]] = []

    def __deepcopy__(self, memo: object) -> Remembering:
        copied = Remembering(self.period, self.holds, self.until)
        copied.shown += self.shown
        self.copies.append(copied)
        return copied

    def __call__(self, limits: Limits, counters: Counters, signals: Signals) -> bool:
        self.shown.append((*counters.values(), signal_values(signals)))
        nb = len(self.shown)
        return nb < self.until and nb % self.period in self.holds


memories = st.tuples(st.integers(1, 12), st.frozensets(st.integers(0, 11), max_size=4), st.sampled_from([50, 333, 10**6]))


@pytest.mark.slow
@given(loops(), memories, st.sampled_from(["step", "validate", "save", "stop"]))
def test_a_guard_with_a_memory_is_shown_in_a_plan_what_the_loop_shows_it(
    loop: LoopSpec, memory: tuple[int, frozenset[int], int], field: str
) -> None:
    def with_guard(guard: Remembering) -> LoopSpec:
        given: dict[str, Any] = {field: {0: guard} if field == "step" else guard}
        return evolve(loop, guards=evolve(loop.guards, **given))

    guard = Remembering(*memory)
    simulate(with_guard(guard))
    assert not guard.shown
    list(with_guard(guard))
    assert Remembering.copies.pop().shown == guard.shown
