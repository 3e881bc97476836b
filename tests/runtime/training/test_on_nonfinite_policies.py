"""Losses and gradients that are not finite: what each policy makes of them, and that without them each trains the same bits."""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS
from torch.utils._python_dispatch import TorchDispatchMode

from fsmtrain import Callback, Guards, Loop, Machine, ModelCheckpoint, Options, Sizes, State, Trainer, every_n_batches
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.errors import NonFiniteError, OptionsError, UsageError
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.optimization.detect_inf_nan import NonFiniteValue
from tests.adapters.sample_trainings import outcome, run_with_both_engines
from tests.models import (
    Adversaries,
    Linear,
    Perceptron,
    Recurrent,
    Validated,
    batches,
    machine_of,
    same_bits,
    sequences,
    twins,
    weights,
)
from tests.resuming.resume_scenarios import SCENARIOS

POLICIES = ("raise", "skip", "rollback")
NOT_COMPARED = ("two workers", "windows that are dropped", "rollbacks", "manual optimization")  # the last refuses the flag
EVERY = Guards(save=every_n_batches(1))
WHATS = ("loss", "gradient")

pytestmark = pytest.mark.filterwarnings("ignore:on_nonfinite")


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Poison(Callback):
    """Spoils losses between their forward and their backward: the loss itself, or only the gradients that come of it.

    Args:
        places: (epoch, batch), (epoch, batch, split) or (epoch, batch, split, optimizer), all from 0; what is left out is 0.
        what: ``"loss"`` or ``"gradient"``.
    """

    def __init__(self, *places: tuple[int, ...], what: str = "loss") -> None:
        self.places, self.what = {(*place, 0, 0)[:4] for place in places}, what

    def on_transition(self, machine: Any, t: Any) -> None:
        loss = machine._run.loss
        place = (t.current_epoch, t.batch_nb, t.split_nb, t.optimizer_i)
        if t.source is State.TRAIN_BATCH and place in self.places and loss is not None:
            machine._run.loss = spoiled(loss, self.what)


def spoiled(loss: Tensor, what: str) -> Tensor:
    """A loss that is NaN, or is what it was and has infinite gradients."""
    return loss * float("nan") if what == "loss" else loss + (loss - loss.detach()).sqrt()


def bad(epoch: int, batch_nb: int, batch: int, split: int = 0, optimizer: int = 0, what: Any = "loss") -> NonFiniteValue:
    return NonFiniteValue(epoch, batch_nb, split, optimizer, batch, what)


def told_from_the_start(machine: Machine, *left_out: NonFiniteValue) -> Machine:
    """The machine with batches left out that no rollback had to take out."""
    machine._run.nonfinite.exclude(left_out)
    return machine


def left_behind(machine: Machine) -> dict[str, Any]:
    """What a run leaves behind, but for its way, and the batches that it went twice."""
    found = outcome(machine)
    return {name: found[name] for name in found if name not in ("trace", "visits")}


# ---- where all is finite


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", [n for n in SCENARIOS if n not in NOT_COMPARED])
def test_where_all_is_finite_each_policy_trains_the_same_bits_by_the_same_transitions(name: str, policy: str) -> None:
    plain, watched = SCENARIOS[name](), SCENARIOS[name](on_nonfinite=policy)
    plain.run()
    watched.run()
    assert same_bits(outcome(plain), outcome(watched))


def test_without_the_flag_nothing_is_in_the_table_or_among_the_actions() -> None:
    off, on = (machine_of(Validated(), batches(4), guards=EVERY, **given) for given in ({}, {"on_nonfinite": "rollback"}))
    assert State.ROLLED_BACK not in off.loop.table.states
    assert [str(r.to) for r in off.loop.table.leaving(State.STEP)] == ["round_end"]
    assert [str(r.to) for r in on.loop.table.leaving(State.STEP)] == ["rolled_back", "round_end", "round_end"]
    named = {state: action.__qualname__.split(".")[0] for state, action in off._actions.by_state.items()}
    assert named[State.TRAIN_BATCH] == named[State.BACKWARD] == named[State.STEP] == "TrainBatch"


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts by state how often a tensor's value is read by the host."""

    def __init__(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.machine, self.counts = machine, Counter[State]()
        lists = Tensor.tolist

        def tolist(tensor: Tensor) -> Any:
            self.counts[machine.state] += 1
            return lists(tensor)

        monkeypatch.setattr(Tensor, "tolist", tolist)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default):
            self.counts[self.machine.state] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("given", "reads"),
    [
        ({}, {}),
        ({"on_nonfinite": "raise"}, {State.VAL_CHECK: 2, State.EPOCH_END: 1}),
        ({"on_nonfinite": "skip"}, {State.STEP: 30}),
        ({"on_nonfinite": "skip", "accumulate_grad_batches": 30}, {State.STEP: 5}),
        ({"on_nonfinite": "rollback", "accumulate_grad_batches": 4, "guards": Guards(save=every_n_batches(70))},
         {State.STEP: 38, State.SAVE: 1}),
    ],
)  # fmt: skip
def test_the_host_reads_once_a_window_or_only_where_it_waits_anyway(
    given: dict[str, Any], reads: dict[State, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over 150 batches, so that numbers are folded together on the way."""

    def counts(**more: Any) -> Counter[State]:
        flags = {"max_nb_epochs": 1, "val_check_interval": 70, "nb_sanity_val_steps": 0, **more}
        machine = machine_of(Validated(), batches(150, 1), batches(2), **flags)
        with monkeypatch.context() as patch:
            reads = Reads(machine, patch)
            with reads:
                machine.run()
        return reads.counts

    given = {"accumulate_grad_batches": 5, **given}
    plain = counts(**{name: value for name, value in given.items() if name != "on_nonfinite"})
    assert State.STEP not in plain
    found = counts(**given)
    found.subtract(plain)
    assert {state: n for state, n in found.items() if n} == reads


# ---- raise

SMALL = list(itertools.product((1, 2, 3), range(4), WHATS))  # K, batch, what


@pytest.mark.parametrize(("k", "batch", "what"), SMALL)
@pytest.mark.parametrize("kind", ["one optimizer", "two optimizers", "truncated bptt"])
def test_raise_names_the_very_backward(kind: str, k: int, batch: int, what: str) -> None:
    places: dict[str, list[tuple[int, ...]]] = {
        "one optimizer": [(1, batch)],
        "two optimizers": [(1, batch, 0, i) for i in (0, 1)],
        "truncated bptt": [(1, batch, split) for split in (0, 1, 2)],
    }
    for place in places[kind]:
        machine = small(kind, k, [Poison(place, *([(1, 3)] if batch < 3 else []), what=what)], on_nonfinite="raise")
        with pytest.raises(NonFiniteError) as caught:
            machine.run()
        split = f", split {place[2]}" if len(place) == 3 and place[2] else ""
        optimizer = place[3] if len(place) == 4 else 0
        name = "the loss" if what == "loss" else "a gradient"
        assert f"{name} of epoch 1, batch {batch}{split}, optimizer {optimizer} was not finite" in str(caught.value)
        assert isinstance(caught.value, FloatingPointError)
        assert machine.state is State.EPOCH_END


def small(kind: str, k: int, callbacks: Any = (), **given: Any) -> Machine:
    """A machine of four batches an epoch, always with the same weights."""
    torch.manual_seed(0)
    given = {"accumulate_grad_batches": k, "max_nb_epochs": 2, **given}
    if kind == "two optimizers":
        return machine_of(Adversaries(), batches(8), callbacks=callbacks, **given)
    if kind == "truncated bptt":
        return machine_of(Recurrent(), sequences(8, 2, 7), callbacks=callbacks, truncated_bptt_steps=3, **given)
    return machine_of(Linear(), batches(8), callbacks=callbacks, **given)


def test_raise_comes_before_a_validation_a_save_and_a_stop() -> None:
    """So no spoiled weights are checked, and none are saved."""
    given: dict[str, Any] = {"on_nonfinite": "raise", "val_check_interval": 3, "nb_sanity_val_steps": 0}
    poison = Poison((0, 1))
    checked = machine_of(Validated(), batches(8), batches(2), callbacks=[poison], **given)
    saved = machine_of(Linear(), batches(8), callbacks=[poison, ModelCheckpoint(every_n_batches=1)], **given)
    stopped = machine_of(Linear(), batches(8), callbacks=[poison, AskToStop(2), ModelCheckpoint(dirpath="stopped")], **given)
    engines: list[Callable[[Machine], object]] = [Machine.run, list, lambda machine: machine.as_transitions().model.run()]
    for (machine, state), engine in zip(
        ((checked, State.VAL_CHECK), (saved, State.SAVE), (stopped, State.STOPPED)), engines, strict=True
    ):
        with pytest.raises(NonFiniteError, match="the loss of epoch 0, batch 1"):
            engine(machine)
        assert machine.state is state
    store = Store("checkpoints")
    assert all(is_finite(store.load(number).tree) for number in store.numbers())
    assert not Path("stopped").exists()


class AskToStop(Callback):
    """Asks for a stop when this batch, from 0, begins."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_batch_start(self, machine: Any, batch: Any) -> None:
        if machine.counters.batches_begun == self.batch:
            machine.stop()


def is_finite(tree: Any) -> bool:
    """Whether all weights and gradients in a checkpoint are."""
    return all(bool(t.isfinite().all()) for part in ("model", "gradients") for t in tree[part].values())


def test_weights_made_nonfinite_by_a_closure_are_reported_with_the_next_batch() -> None:
    class Bursting(Linear):
        calls = 0

        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.calls += 1
            return self.loss(batch) * (float("nan") if self.calls == 2 else 1.0)

    machine = machine_of(Bursting(functools.partial(LBFGS, max_iter=3)), batches(8), max_nb_epochs=1, on_nonfinite="raise")
    with pytest.raises(NonFiniteError, match="epoch 0, batch 1"):
        machine.run()


# ---- skip


def by_hand(
    model: Any, k: int, spoil: dict[int, str], *, drops: bool, tbptt: bool = False, epochs: int = 1, two: bool = False
) -> int:
    """The loop that a person would write. Windows with a number that is not finite are dropped, or their bad batch is left out.

    Returns how many windows were stepped by none.
    """
    optimizers: Any = model.configure_optimizers()
    optimizers = optimizers if isinstance(optimizers, tuple) else (optimizers,)
    data = list(sequences(8, 2, 7) if tbptt else batches(8))
    dropped = 0
    held = [[0, 0, False] for _ in optimizers]  # backwards, of these left out, whether spoiled
    for _, (nb, batch) in itertools.product(range(epochs), enumerate(data)):
        splits = list(zip(*(part.split(3, dim=1) for part in batch), strict=True)) if tbptt else [batch]
        hiddens: Any = None
        for (s, split), (i, optimizer) in itertools.product(enumerate(splits), enumerate(optimizers)):
            mine = [p for group in optimizer.param_groups for p in group["params"]]
            for other in optimizers:
                for p in (p for group in other.param_groups for p in group["params"]):
                    p.requires_grad_(other is optimizer)
            window = held[i]
            window[0] += 1
            length = k if tbptt else min(k, len(data) - (nb + 1 - window[0]))
            if nb in spoil and not drops:
                window[1] += 1
            else:
                if tbptt:
                    out = model.training_step(split, nb, hiddens)
                    loss, hiddens = out["loss"], tuple(h.detach() for h in out["hiddens"])
                else:
                    loss = model.training_step(split, nb, i) if two else model.training_step(split, nb)
                if nb in spoil and s == 0 and i == 0:
                    loss = spoiled(loss, spoil[nb])
                    window[2] = True
                loss.backward(torch.full_like(loss, 1 / length)) if length > 1 else loss.backward()
            if window[0] == k or (nb + 1 == len(data) and s + 1 == len(splits)):
                if window[2]:
                    optimizer.zero_grad()
                    dropped += 1
                elif window[0] == window[1]:
                    dropped += 1
                else:
                    scale = length / (window[0] - window[1])
                    if scale != 1:
                        for p in mine:
                            if p.grad is not None:
                                p.grad.mul_(scale)
                    optimizer.step()
                    optimizer.zero_grad()
                held[i] = [0, 0, False]
    return dropped


@pytest.mark.parametrize(("k", "batch", "what"), SMALL)
@pytest.mark.parametrize("kind", ["one optimizer", "two optimizers", "truncated bptt"])
def test_skip_drops_exactly_the_window_and_trains_what_one_would_write_by_hand(
    kind: str, k: int, batch: int, what: str
) -> None:
    machine = small(kind, k, [Poison((0, batch), what=what)], on_nonfinite="skip", max_nb_epochs=1)
    seen: list[bool] = []
    model = _twin(kind)
    dropped = by_hand(model, k, {batch: what}, drops=True, tbptt=kind == "truncated bptt", two=kind == "two optimizers")
    for transition in machine:
        if transition.source is State.STEP:
            seen.append(machine.signals.step_skipped)
    assert same_bits(list(machine.model.parameters()), list(model.parameters()))
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    assert machine.counters.steps_skipped == sum(seen) == dropped == 1
    assert sum(machine.counters.optimizer_steps) == len(seen) - 1
    assert all(p.grad is None for p in machine.model.parameters())


def _twin(kind: str) -> nn.Module:
    torch.manual_seed(0)
    kinds: dict[str, Callable[[], nn.Module]] = {
        "one optimizer": Linear, "two optimizers": Adversaries, "truncated bptt": Recurrent
    }  # fmt: skip
    return kinds[kind]()


def test_a_window_is_dropped_for_a_loss_whose_gradients_are_finite() -> None:
    class Shifted(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return self.loss(batch) + (float("inf") if batch_nb == 1 else 0.0)

    machine = machine_of(Shifted(), batches(8), on_nonfinite="skip", max_nb_epochs=1)
    assert machine.run().counters.steps_skipped == 1


def test_skipped_windows_are_reported_once() -> None:
    machine = machine_of(Linear(), batches(8), callbacks=[Poison((0, 1), (0, 2))], on_nonfinite="skip", max_nb_epochs=1)
    with pytest.warns(UserWarning, match="the loss of epoch 0, batch 1, optimizer 0 was not finite") as told:
        machine.run()
    assert len([one for one in told if "on_nonfinite" in str(one.message)]) == 1
    assert machine.counters.steps_skipped == 2


def test_a_scheduler_that_follows_steps_does_not_follow_a_dropped_one() -> None:
    def scheduled(parameters: Any) -> Any:
        optimizer = torch.optim.SGD(parameters, lr=1.0)
        return {"optimizer": optimizer, "lr_scheduler": {
            "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5), "interval": "step"}}  # fmt: skip

    machine = machine_of(Linear(scheduled), batches(8), callbacks=[Poison((0, 1))], on_nonfinite="skip", max_nb_epochs=1)
    machine.run()
    assert machine.optimizers[0].param_groups[0]["lr"] == 0.125


# ---- rollback


@pytest.mark.slow
@pytest.mark.parametrize(("k", "batch", "what"), [one for one in SMALL if one[1] > 0])
@pytest.mark.parametrize("kind", ["one optimizer", "two optimizers", "truncated bptt"])
def test_rollback_trains_what_one_would_write_by_hand_without_the_batch(kind: str, k: int, batch: int, what: str) -> None:
    machine = small(kind, k, [Poison((0, batch), what=what)], on_nonfinite="rollback", max_nb_epochs=1, guards=EVERY)
    model = _twin(kind)
    dropped = by_hand(model, k, {batch: what}, drops=False, tbptt=kind == "truncated bptt", two=kind == "two optimizers")
    result = machine.run()
    assert same_bits(list(machine.model.parameters()), list(model.parameters()))
    assert result.rollbacks == (bad(0, batch, batch + 1, what=what),)
    assert result.counters.steps_skipped == dropped
    assert result.stop_reason is StopReason.MAX_EPOCHS
    assert result.counters.batches_begun == 4


@pytest.mark.slow
@pytest.mark.parametrize(("what", "at"), [("loss", 3), ("gradient", 4), ("gradient", 7), ("loss", 8)])
@pytest.mark.parametrize("name", [n for n in SCENARIOS if n not in NOT_COMPARED])
def test_a_run_that_rolled_back_equals_one_that_excluded_the_batch_from_the_start(name: str, what: Any, at: int) -> None:
    """To leave that batch out: bit for bit, whatever else there is to a run. `at` counts the run's batches from 1."""
    if what == "gradient" and name == "fp16 with a scaler":
        pytest.skip("there the scaler answers")
    if at <= 3 and name in ("saved where it ends", "a limit of steps"):
        pytest.skip("there the first checkpoint is saved after that batch")
    found = _place(name, at)
    if found is None:
        pytest.skip("the run has no such batch")
    epoch, batch_nb = found
    machine = SCENARIOS[name]([Poison((epoch, batch_nb), what=what)], on_nonfinite="rollback")
    told = told_from_the_start(SCENARIOS[name]([Poison((epoch, batch_nb))], on_nonfinite="rollback"), bad(epoch, batch_nb, at))
    machine.run()
    told.run()
    if name == "forwards without a loss" and what == "loss" and not machine.rollbacks:
        pytest.skip("that batch has no loss")
    assert [one.batch for one in machine.rollbacks] == [at]
    assert same_bits(left_behind(machine), left_behind(told))


@functools.cache
def _place(name: str, at: int) -> tuple[int, int] | None:
    machine = SCENARIOS[name]()
    for transition in machine:
        if transition.source is State.FETCH and machine.counters.batches_begun == at:
            return transition.current_epoch, transition.batch_nb
    return None


def test_no_checkpoint_holds_the_gradients_of_a_spoiled_window() -> None:
    """So the run goes back behind the bad batch, though there were saves after it."""
    machine = machine_of(
        Linear(), batches(16), callbacks=[Poison((0, 5))], on_nonfinite="rollback", guards=EVERY, accumulate_grad_batches=4,
        max_nb_epochs=1,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="rollback 1 of at most 3"):
        machine.run()
    store = Store("checkpoints")
    trees = [store.load(number).tree for number in store.numbers()]
    assert [tree["counters"]["batch_nb"] for tree in trees] == [*range(5), *range(5, 8)]
    assert all(map(is_finite, trees))


@pytest.mark.parametrize("turns", [(True,), (False,), (True, False), (False, False, True)])
def test_both_engines_roll_back_by_the_same_transitions(turns: tuple[bool, ...]) -> None:
    given: dict[str, Any] = {"on_nonfinite": "rollback", "guards": EVERY, "accumulate_grad_batches": 2, "max_nb_epochs": 3}
    one, two = (
        machine_of(model, batches(10, shuffle=True), callbacks=[Poison((0, 3), (2, 0))], seed=2, **given)
        for model in twins(Perceptron)
    )
    one.run()
    Path("checkpoints").rename("others")
    run_with_both_engines(two, itertools.cycle(turns))
    assert same_bits(outcome(one), outcome(two))
    assert one.rollbacks == two.rollbacks == (bad(0, 3, 4), bad(2, 0, 11))


def test_the_transition_to_rolled_back_is_reported_and_the_next_one_begins_at_the_save() -> None:
    machine = machine_of(Linear(), batches(8), callbacks=[Poison((0, 2))], on_nonfinite="rollback", guards=EVERY)
    seen = []
    for transition in machine:
        seen.append(transition)
        if transition.to is State.ROLLED_BACK:
            assert machine.state is State.ROUND_END
            assert machine.counters.batch_nb == 1
            break
    after = machine.advance()
    assert (seen[-1].source, seen[-1].batch_nb, after.source, after.batch_nb) == (State.STEP, 2, State.ROUND_END, 1)
    assert machine.trace.total == len(seen) + 1
    assert sum(machine.trace.taken) == machine.trace.total
    assert [str(t) for t in machine.trace] == [*map(str, seen), str(after)]


@pytest.mark.slow
@pytest.mark.parametrize("n", range(20, 90, 3))
def test_a_run_killed_after_a_rollback_resumes_to_the_same_bits(n: int) -> None:
    """With all that it remembered of it, wherever it is left alone."""

    def machine() -> Machine:
        torch.manual_seed(0)
        return machine_of(
            Perceptron(), batches(10, shuffle=True), callbacks=[Poison((0, 3), (1, 1))], on_nonfinite="rollback", seed=2,
            guards=Guards(save=every_n_batches(2)), accumulate_grad_batches=2, max_nb_epochs=3,
        )  # fmt: skip

    whole = machine()
    whole.run()
    Path("checkpoints").rename("others")
    first = machine()
    for _ in range(n):
        first.advance()
    assert first._checkpoints._writer is not None
    first._checkpoints._writer.wait()
    second = machine()
    second.resume()
    second.run()
    assert same_bits(left_behind(second), left_behind(whole))
    assert second.rollbacks == whole.rollbacks == (bad(0, 3, 4), bad(1, 1, 7))


@pytest.mark.parametrize("engine", [Machine.run, list, lambda machine: machine.as_transitions().model.run()])
def test_it_gives_up_after_so_many_rollbacks_and_names_them_all(engine: Callable[[Machine], object]) -> None:
    machine = machine_of(
        Linear(), batches(16), callbacks=[Poison((0, 2), (0, 4), (0, 5))], on_nonfinite="rollback", max_nb_rollbacks=2,
        guards=EVERY,
    )  # fmt: skip
    with pytest.raises(NonFiniteError) as caught:
        engine(machine)
    for said in (
        "the loss of epoch 0, batch 5, optimizer 0 was not finite", "max_nb_rollbacks=2", "epoch 0, batch 2", "epoch 0, batch 4"
    ):  # fmt: skip
        assert said in str(caught.value)
    assert machine.stop_reason is None
    assert any("the last transitions" in note for note in caught.value.__notes__)
    with pytest.raises(UsageError, match="ended with an error"):
        machine.run()


def test_a_run_without_a_checkpoint_yet_cannot_go_back() -> None:
    """A checkpoint of another run, in the same folder, is none of its own."""
    machine_of(Linear(), batches(8), guards=EVERY, max_nb_epochs=1).run()
    machine = machine_of(Linear(), batches(8), callbacks=[Poison((0, 0))], on_nonfinite="rollback", guards=EVERY)
    with pytest.raises(NonFiniteError, match=r"epoch 0, batch 0.* has saved no checkpoint yet"):
        machine.run()


def test_a_run_that_was_resumed_can_go_back_to_where_it_was() -> None:
    first = machine_of(Linear(), batches(8), guards=Guards(save=every_n_batches(4)), max_nb_epochs=1)
    first.run()
    machine = machine_of(
        Linear(), batches(8), callbacks=[Poison((1, 0))], on_nonfinite="rollback", guards=Guards(save=every_n_batches(4)),
        max_nb_epochs=2,
    )  # fmt: skip
    machine.resume()
    assert machine.run().rollbacks == (bad(1, 0, 5),)


def test_a_stop_in_a_spoiled_window_is_not_saved_there() -> None:
    def machine(*callbacks: object) -> Machine:
        torch.manual_seed(0)
        return machine_of(
            Linear(), batches(16), callbacks=[Poison((0, 5)), *callbacks], on_nonfinite="rollback", guards=EVERY,
            accumulate_grad_batches=4, max_nb_epochs=1,
        )  # fmt: skip

    whole = machine()
    whole.run()
    Path("checkpoints").rename("others")
    stopped = machine(AskToStop(6))
    with pytest.warns(UserWarning, match="not saved where it stopped"):
        assert stopped.run().stop_reason is StopReason.REQUESTED
    again = machine()
    again.resume()
    again.run()
    assert same_bits(weights(again.model), weights(whole.model))


def test_a_stop_request_before_a_rollback_is_kept() -> None:
    class StopAtStep(Callback):
        def on_transition(self, machine: Any, t: Any) -> None:
            if t.to is State.STEP and t.batch_nb == 2:
                machine.stop()

    machine = machine_of(Linear(), batches(8), callbacks=[Poison((0, 2)), StopAtStep()], on_nonfinite="rollback", guards=EVERY)
    assert machine.run().stop_reason is StopReason.REQUESTED
    assert machine.counters.batch_nb == 1


def test_gradients_that_an_override_left_unstepped_survive_a_batch_that_is_left_out() -> None:
    class CheckpointManager(Linear):
        def optimizer_step(
            self, epoch: int, batch_nb: int, optimizer: Any, optimizer_i: int, second_order_closure: Any = None
        ) -> None:
            if batch_nb % 2:
                optimizer.step()
                optimizer.zero_grad()

    def after(callbacks: Any, *left_out: NonFiniteValue) -> list[Tensor]:
        torch.manual_seed(0)
        machine = machine_of(
            CheckpointManager(), batches(8), callbacks=callbacks, on_nonfinite="rollback", guards=EVERY, max_nb_epochs=1
        )
        told_from_the_start(machine, *left_out).run()
        return weights(machine.model)

    model = _twin("one optimizer")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for nb, batch in enumerate(batches(8)):
        if nb == 1:  # left out, hook and all; the gradients of batch 0 wait for batch 3
            continue
        model.training_step(batch, nb).backward()  # type: ignore[operator]
        if nb % 2:
            optimizer.step()
            optimizer.zero_grad()
    assert same_bits(after([Poison((0, 1))]), weights(model))
    assert same_bits(after([], bad(0, 1, 2)), weights(model))


# ---- fp16


def test_with_fp16_a_loss_that_is_not_finite_does_not_lower_the_scale() -> None:
    """The scaler's own answer to bad gradients would lower it, and it is still asked about gradients."""

    class Small(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return self.loss(batch) * 1e-3  # so that the first scale fits

    def scale(**given: Any) -> float:
        machine = machine_of(Small(), batches(8), callbacks=[Poison((0, 1))], precision="16", max_nb_epochs=1, **given)
        machine.run()
        assert machine.counters.steps_skipped == 1
        assert machine._actions.scalers is not None
        return float(machine._actions.scalers.state_dict()[0]["scale"])

    assert scale() == 2.0**15
    assert scale(on_nonfinite="skip") == 2.0**16


@pytest.mark.parametrize("policy", POLICIES)
def test_with_fp16_gradients_that_overflow_are_left_to_the_scaler(policy: str) -> None:
    class Steep(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return self.loss(batch) * 1e35

    machine = machine_of(Steep(), batches(8), precision="16", max_nb_epochs=1, on_nonfinite=policy, guards=EVERY)
    result = machine.run()
    assert result.counters.steps_skipped == 4
    assert result.rollbacks == ()


# ---- what is refused


def test_what_a_policy_cannot_do_is_refused_when_the_run_is_built() -> None:
    closure = functools.partial(LBFGS, max_iter=2)
    with pytest.raises(OptionsError, match=r"on_nonfinite='rollback': .*ModelCheckpoint\(every_n_batches=...\)"):
        machine_of(Linear(), batches(8), on_nonfinite="rollback")
    for policy in ("skip", "rollback"):
        with pytest.raises(OptionsError, match=f"on_nonfinite='{policy}': LBFGS evaluates its loss within its step"):
            machine_of(Linear(closure), batches(8), on_nonfinite=policy, guards=EVERY)
    for train, val in ((iter(list(batches(8))), batches(2)), (batches(8), iter(list(batches(2))))):
        with pytest.raises(OptionsError, match="which can be used only once"):
            machine_of(
                Validated(), train, val, on_nonfinite="rollback", guards=EVERY, nb_sanity_val_steps=0, max_nb_epochs=1,
                val_check_interval=1,
            )  # fmt: skip
    machine_of(Linear(closure), batches(8), on_nonfinite="raise", max_nb_epochs=1).run()


def test_a_test_with_the_same_options_needs_no_checkpoints(tmp_path: Path) -> None:
    trainer = Trainer(
        max_nb_epochs=1, on_nonfinite="rollback", device="cpu", quiet=True, runs_dir=None,
        callbacks=[ModelCheckpoint(dirpath=tmp_path / "kept")],
    )  # fmt: skip
    model = Validated()
    trainer.fit(model, batches(4))
    assert "test_loss" in trainer.test(test_dataloaders=batches(4))
    alone = Trainer(on_nonfinite="rollback", device="cpu", quiet=True, runs_dir=None)
    assert "test_loss" in alone.test(model, batches(4))


def test_a_trainer_whose_fit_gave_up_has_not_finished() -> None:
    trainer = Trainer(
        max_nb_epochs=1, on_nonfinite="rollback", device="cpu", quiet=True, runs_dir=None,
        callbacks=[ModelCheckpoint(), Poison((0, 0))],
    )  # fmt: skip
    for _ in range(2):
        with pytest.raises(NonFiniteError):
            trainer.fit(Linear(), batches(4))


# ---- told beforehand


def test_the_plan_with_on_nonfinite_says_may() -> None:
    plain = Loop(Options(max_nb_epochs=2), Sizes(train=4)).plan()
    skips = Loop(Options(max_nb_epochs=2, on_nonfinite="skip"), Sizes(train=4)).plan()
    rolls = Loop(Options(max_nb_epochs=2, on_nonfinite="rollback", max_nb_rollbacks=1), Sizes(train=4)).plan()
    assert (plain.max_rollbacks, skips.max_rollbacks, rolls.max_rollbacks) == (0, 0, 1)
    assert plain.optimizer_steps == skips.optimizer_steps == rolls.optimizer_steps == (8,)
    assert skips.at_least.optimizer_steps == rolls.at_least.optimizer_steps == (0,)
    assert "on_nonfinite" not in str(plain)
    assert "may skip steps" in str(skips)
    assert "may return to a checkpoint, at most 1 time" in str(rolls)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_check_finds_nothing_wrong_with_a_policy(policy: str) -> None:
    options = Options(max_nb_epochs=2, accumulate_grad_batches=3, on_nonfinite=policy)  # type: ignore[arg-type]
    report = Loop(options, Sizes(train=8, optimizers=2), guards=EVERY).check()
    assert report.findings == ()


def test_a_loop_without_a_model_ends_at_a_nonfinite_signal() -> None:
    loop, seen = Loop(Options(max_nb_epochs=2, on_nonfinite="rollback"), Sizes(train=4)), []
    for visit in loop:
        seen.append((visit.state, visit.current_epoch, visit.batch_nb))
        if visit.state is State.STEP and visit.batch_nb == 2:
            visit.signals.nonfinite = True
    assert seen[-1] == (State.STEP, 0, 2)


# ---- told afterwards


def test_rollbacks_and_dropped_windows_are_in_the_summary_the_folder_and_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    def told(**given: Any) -> tuple[str, dict[str, Any], str, str]:
        flags = {"quiet": False, "progress_bar": False, "runs_dir": "runs", "max_nb_epochs": 1, **given}
        machine = machine_of(Linear(), batches(8), callbacks=[Poison((0, 2))], **flags)
        machine.run()
        machine.report("report.html")
        folder = machine.run_dir
        assert folder is not None
        page = re.sub(r"\s*<[^>]+>\s*", " ", Path("report.html").read_text(encoding="utf-8"))
        end = json.loads((folder / "end.json").read_text(encoding="utf-8"))
        return " ".join(capsys.readouterr().err.split()), end, (folder / "log.txt").read_text(encoding="utf-8"), page

    where = "the loss of epoch 0, batch 2, optimizer 0"
    summary, end, log, page = told(on_nonfinite="rollback", guards=EVERY)
    assert f"Not finite: 1 step skipped, 1 rollback, for {where}." in summary
    assert (end["rollbacks"], end["steps_skipped"], end["reason"]) == (1, 1, "max_epochs")
    assert f"warning: on_nonfinite='rollback': {where} was not finite: the run goes back to " in log
    assert "/runs/0/checkpoints/000001 and excludes that batch" in log
    assert "1 rollback to a checkpoint, each excluding a batch" in page
    summary, end, log, page = told(on_nonfinite="skip")
    assert "Not finite: 1 step skipped." in summary
    assert (end["rollbacks"], end["steps_skipped"]) == (0, 1)
    assert f"warning: on_nonfinite='skip': {where} was not finite" in log
    assert "1 step skipped by on_nonfinite: losses or gradients were not finite." in page
