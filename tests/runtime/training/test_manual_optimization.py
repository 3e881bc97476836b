"""Manual optimization: ``training_step`` makes the backwards and steps. Compared with loops written by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR

from fsmtrain import Guards, Loop, Machine, ModelCheckpoint, Options, Sizes, State, Trainer, TrainingModule, every_n_batches
from fsmtrain.errors import ModelError, OptionsError, ResumeError, SizesError, UsageError
from tests.models import Linear, batches, machine_of, same_bits


class Adversaries(TrainingModule):
    """Two parts, stepped in windows that ``training_step`` makes: a step of each part after so many batches."""

    def __init__(self, every: tuple[int, int] = (1, 1), *, toggles: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = False
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 1)
        self.every, self.toggles = every, toggles

    def losses(self, batch: Any) -> Any:
        """The loss of each part, computed when it is asked for."""
        x, y = batch
        yield (self.second(self.first(x)) - y).square().mean()
        yield (self.second(self.first(x)) + y).square().mean()

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        losses = self.losses(batch)
        for optimizer, every in zip(self.optimizers(), self.every, strict=True):
            if self.toggles:
                self.toggle_optimizer(optimizer)
            loss = next(losses)
            self.manual_backward(loss)
            if batch_nb % every == every - 1:
                optimizer.step()
                optimizer.zero_grad()
        self.lr_schedulers().step()
        return loss

    def configure_optimizers(self) -> Any:
        adam, sgd = Adam(self.first.parameters(), lr=0.05), SGD(self.second.parameters(), lr=0.1, momentum=0.9)
        return [adam, sgd], [StepLR(adam, 3, gamma=0.5)]


def trained_by_hand(model: Adversaries, loader: Any, epochs: int) -> int:
    """Train a model by nested loops; return the number of steps."""
    (adam, sgd), (scheduler,) = model.configure_optimizers()
    parts, steps = (model.first, model.second), 0
    for _ in range(epochs):
        for batch_nb, batch in enumerate(loader):
            losses = model.losses(batch)
            for i, (optimizer, every) in enumerate(zip((adam, sgd), model.every, strict=True)):
                if model.toggles:
                    for k, part in enumerate(parts):
                        part.requires_grad_(k == i)
                next(losses).backward()
                if batch_nb % every == every - 1:
                    optimizer.step()
                    optimizer.zero_grad()
                    steps += 1
            scheduler.step()
        model.requires_grad_(True)
    return steps


@given(st.integers(1, 7), st.integers(1, 2), st.tuples(st.integers(1, 4), st.integers(1, 3)), st.booleans())
@settings(max_examples=25, deadline=None)
def test_it_ends_in_the_bits_of_a_loop_by_hand_and_counts_every_step(
    n: int, epochs: int, every: tuple[int, int], toggles: bool
) -> None:
    model = Adversaries(every, toggles=toggles)
    by_hand = copy.deepcopy(model)
    machine = machine_of(model, batches(2 * n), max_nb_epochs=epochs)
    result = machine.run()
    steps = trained_by_hand(by_hand, batches(2 * n), epochs)
    assert same_bits(model.state_dict(), by_hand.state_dict())
    assert result.counters.global_step == result.counters.optimizer_steps[0] == steps
    assert all(parameter.requires_grad for parameter in model.parameters())


class ByHand(Linear):
    """What the run does by itself, in ``training_step``."""

    automatic_optimization = False

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        optimizer, loss = self.optimizers(), self.loss(batch)
        self.manual_backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        return loss


def test_it_does_what_the_run_does_with_automatic_optimization() -> None:
    torch.manual_seed(1)
    automatic = Linear()
    manual = ByHand()
    manual.load_state_dict(automatic.state_dict())
    results = [machine_of(model, batches(9), max_nb_epochs=3).run() for model in (automatic, manual)]
    assert same_bits(automatic.state_dict(), manual.state_dict())
    assert results[0].counters.global_step == results[1].counters.global_step == 15
    assert results[0].metrics == results[1].metrics


# ---- what decides


def test_the_record_has_the_learning_rate_of_every_optimizer(tmp_path: Path) -> None:
    one = machine_of(Adversaries(), batches(8), max_nb_epochs=1, runs_dir=tmp_path)
    one.optimizers[1].param_groups[0]["lr"] = 0.0625
    one.run()
    assert one.run_dir is not None
    rows = [json.loads(line) for line in (one.run_dir / "metrics.jsonl").read_text().splitlines()]
    rates = [0.05] * 2 + [0.025] * 2  # of StepLR, after each batch's own step
    assert [(row["lr"], row["batches"]) for row in rows if row["kind"] == "train"] == [([rate, 0.0625], 1) for rate in rates]


def test_the_states_of_the_loop_s_own_steps_are_not_in_its_table() -> None:
    machine = machine_of(ByHand(), batches(4), max_nb_epochs=1)
    assert {State.BACKWARD, State.ACCUMULATE, State.STEP}.isdisjoint(machine.spec.table.states)
    names = [transition.source.value for transition in machine]
    assert names == ["start", *["fetch", "train_batch", "round_end"] * 2, "epoch_end", "early_stop"]


def test_max_steps_counts_the_steps_of_training_step() -> None:
    machine = machine_of(Adversaries((1, 2)), batches(20), max_nb_epochs=None, max_steps=7)
    counters = machine.run().counters
    assert (counters.global_step, counters.batches_begun) == (7, 5)  # 1, 3, 4, 6, 7


class StepsInAHook(ByHand):
    """The step is made in a hook, after the batch."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.manual_backward(self.loss(batch))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_nb: int) -> None:
        """Step."""
        self.optimizers().step()
        self.optimizers().zero_grad()


def test_a_step_in_a_hook_counts_with_the_next_batch() -> None:
    machine = machine_of(StepsInAHook(), batches(8), max_nb_epochs=1)
    assert machine.run().counters.global_step == 3


def test_a_loop_of_one_s_own_says_how_many_steps_it_made() -> None:
    loop, made = Loop(Options(max_steps=6), Sizes(train=5, manual_optimization=True)), iter((0, 2, 1, 3))
    for visit in loop:
        if visit.state is State.TRAIN_BATCH:
            visit.signals.own_steps = next(made)
    assert visit.global_step == 6


# ---- what a person sees


def test_plan_check_and_diagram_say_that_training_step_decides(tmp_path: Path) -> None:
    loop = Loop(Options(max_nb_epochs=2), Sizes(train=5, val=[1], optimizers=2, manual_optimization=True))
    plan = loop.plan()
    assert "steps          decided by training_step, since automatic_optimization=False" in str(plan)
    assert "optimizer" not in str(plan).replace("automatic_optimization", "")
    assert plan.at_least.global_step == 0
    assert "10" not in str(plan)
    report = loop.check()
    assert not report.findings
    assert "the steps are decided by training_step" in str(report)
    loop.draw(tmp_path / "machine.mmd")
    drawn = (tmp_path / "machine.mmd").read_text().replace("<br/>", " ")
    assert "train_batch --> round_end : steps: decided by training_step" in drawn


def test_the_plan_says_what_it_assumes_where_steps_end_the_run() -> None:
    loop = Loop(Options(max_steps=7), Sizes(train=5, manual_optimization=True))
    assert "max_steps    7; this plan assumes one step in each batch" in str(loop.plan())


def test_the_steps_are_not_known_beforehand() -> None:
    class Asks(ByHand):
        def configure_optimizers(self) -> Any:
            return SGD(self.parameters(), lr=1 / self.trainer.total_steps)

    with pytest.raises(SizesError, match=r"trainer\.total_steps: with automatic_optimization=False training_step decides"):
        Trainer(max_nb_epochs=1, runs_dir=None).fit(Asks(), batches(4))


# ---- hooks, metrics


class Hooked(ByHand):
    """All hooks around backwards and steps."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []

    def on_before_backward(self, loss: Any) -> None:
        """Note it."""
        self.called.append(f"before backward of {loss.requires_grad}")

    def on_after_backward(self) -> None:
        """Note it."""
        self.called.append("after backward")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Note it."""
        self.called.append(f"before step {type(optimizer).__name__}")

    def on_after_optimizer_step(self, optimizer: Any) -> None:
        """Note it."""
        self.called.append("after step")


def test_the_hooks_of_backwards_and_steps_are_called() -> None:
    model = Hooked()
    optimizers = machine_of(model, batches(2), max_nb_epochs=1).run()
    assert model.called == ["before backward of True", "after backward", "before step SGD", "after step"], optimizers


def test_nothing_stays_on_the_optimizer_after_the_run() -> None:
    model = Hooked()
    machine = machine_of(model, batches(2), max_nb_epochs=1)
    machine.run()
    machine.optimizers[0].step()
    assert len(model.called) == 4


@pytest.mark.parametrize("returned", [None, {}, {"log": {"x": 1.0}}, torch.tensor(2.0), {"loss": torch.tensor([2.0])}])
def test_training_step_may_return_no_loss_or_one_without_a_graph(returned: Any) -> None:
    class Returns(ByHand):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            super().training_step(batch, batch_nb)
            return returned

    assert machine_of(Returns(), batches(4), max_nb_epochs=1).run().counters.global_step == 2


def test_another_value_is_an_error() -> None:
    class Returns(ByHand):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return "done"

    with pytest.raises(ModelError, match=r"returned a str.*With automatic_optimization=False it may return"):
        machine_of(Returns(), batches(4), max_nb_epochs=1).run()


# ---- what is refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"accumulate_grad_batches": 4}, r"accumulate_grad_batches=4: with automatic_optimization=False"),
        ({"gradient_clip_val": 0.5}, r"gradient_clip_val=0\.5: .*self\.clip_gradients\(optimizer, 0\.5\)"),
        ({"truncated_bptt_steps": 2}, r"truncated_bptt_steps=2: .*split the batch in training_step"),
        ({"on_nonfinite": "skip"}, r"on_nonfinite='skip': "),
        ({"precision": "16"}, r"precision='16': .*precision='bf16'"),
        ({"guards": Guards(step={0: every_n_batches(2)})}, r"Guards\(step=\{0: \.\.\.\}\): "),
    ],
)
def test_flags_about_the_loop_s_own_steps_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        machine_of(ByHand(), batches(4), **given)


def test_automatic_optimization_is_a_bool() -> None:
    model = ByHand()
    model.automatic_optimization = None  # type: ignore[assignment]
    with pytest.raises(ModelError, match="automatic_optimization=None: must be True, or False"):
        machine_of(model, batches(4))


@pytest.mark.parametrize("method", ["manual_backward", "toggle_optimizer", "untoggle_optimizer"])
def test_its_methods_are_errors_with_automatic_optimization(method: str) -> None:
    class Automatic(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            loss = self.loss(batch)
            getattr(self, method)(loss)
            return loss

    with pytest.raises(UsageError, match=rf"self\.{method}\(\): the run makes backwards.*automatic_optimization = False"):
        machine_of(Automatic(), batches(4)).run()


@pytest.mark.parametrize("method", ["optimizers", "lr_schedulers", "manual_backward", "toggle_optimizer"])
def test_its_methods_are_errors_without_a_run(method: str) -> None:
    with pytest.raises(UsageError, match=rf"self\.{method}\(\): there is no run"):
        getattr(ByHand(), method)(*([] if method in ("optimizers", "lr_schedulers") else [None]))


def test_an_optimizer_of_another_run_is_not_toggled() -> None:
    class Toggles(ByHand):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            self.toggle_optimizer(SGD(self.parameters(), lr=0.1))

    with pytest.raises(UsageError, match="none of those that configure_optimizers returned"):
        machine_of(Toggles(), batches(4)).run()


@pytest.mark.parametrize("strict", [True, False])
def test_a_run_is_resumed_only_with_the_optimization_that_it_had(tmp_path: Any, strict: bool) -> None:
    def machine(model: Any) -> Machine:
        return machine_of(model, batches(4), max_nb_epochs=2, callbacks=[ModelCheckpoint(dirpath=tmp_path)])

    machine(ByHand()).run()
    automatic = machine(Linear())
    with pytest.raises(ResumeError, match="automatic_optimization=True: the run was saved with False"):
        automatic.resume(tmp_path, strict=strict)
