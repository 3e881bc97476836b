"""`Trainer` and `Machine`: fit, test, step through, and what a run leaves behind."""

from __future__ import annotations

import argparse
import copy
import functools
import io
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import nn
from torch.optim import SGD

import fsmtrain
from fsmtrain import (
    Callback,
    EarlyStopping,
    FsmtrainError,
    Guards,
    LightningModule,
    Machine,
    ModelCheckpoint,
    Options,
    State,
    Trainer,
    TrainingModule,
    build,
    every_n_batches,
)
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.errors import OptionsError, UsageError
from tests.models import (
    Adversaries,
    Linear,
    Perceptron,
    Plain,
    Stream,
    TransitionRecorder,
    Validated,
    batches,
    flags,
    machine_of,
    same_bits,
    trained,
    twins,
    weights,
)


def trainer_of(**options: Any) -> Trainer:
    """A quiet trainer on the CPU."""
    return Trainer(**{"progress_bar": False, "device": "cpu", "max_nb_epochs": 2, **options})


class WithLoaders(Perceptron):
    """A model that brings its own data."""

    def train_dataloader(self) -> Any:
        return batches(8)

    def val_dataloader(self) -> Any:
        return [batches(4)]

    def test_dataloader(self) -> Any:
        return batches(6)


# ---- fit and test


@pytest.mark.parametrize(
    "flags", [{"max_steps": 30}, {"max_steps": 30, "max_nb_epochs": 4}, {"max_nb_epochs": 4}, {}, {"max_steps": None}]
)
def test_a_trainer_has_the_flags_that_options_have(flags: dict[str, Any]) -> None:
    trainer, options = Trainer(**flags), Options(**flags)
    for name in (f.name for f in attrs.fields(Options)):
        assert getattr(trainer, name) == getattr(options, name), name
    assert copy.copy(trainer).max_nb_epochs == attrs.evolve(trainer).max_nb_epochs == options.max_nb_epochs


def test_max_steps_alone_ends_a_fit_however_many_epochs_that_takes() -> None:
    trainer = Trainer(max_steps=2500, runs_dir=None, quiet=True)
    trainer.fit(Linear(), batches(4))
    assert (trainer.global_step, trainer.total_steps) == (2500, 2500)


def test_fit_trains_and_does_not_test() -> None:
    model, trainer = WithLoaders(), trainer_of()
    before = weights(model)
    result = trainer.fit(model)
    assert not same_bits(weights(model), before)
    assert (result.stop_reason, result.state) == (StopReason.MAX_EPOCHS, State.DONE)
    assert result.counters.epochs_done == 2
    assert State.TEST not in result.times
    assert set(result.metrics) == {"val_loss"}


def test_test_after_fit_returns_the_metrics_and_leaves_the_weights_alone() -> None:
    model, trainer = WithLoaders(), trainer_of()
    trainer.fit(model)
    before = weights(model)
    metrics = trainer.test()
    assert set(metrics) == {"test_loss"}
    model.eval()
    with torch.no_grad():
        expected = sum(float(model.loss(batch)) for batch in batches(6)) / 3
    assert metrics["test_loss"] == pytest.approx(expected)
    assert same_bits(weights(model), before)


def test_a_model_passed_to_test_is_tested_without_a_train_loader() -> None:
    model = Plain()
    before = weights(model)
    metrics = trainer_of(test_percent_check=0.5).test(model, batches(8))
    assert set(metrics) == {"test_loss"}
    assert same_bits(weights(model), before)
    assert all(module.training for module in model.modules())


def test_another_model_can_be_tested_after_a_fit() -> None:
    trainer, other = trainer_of(), Plain()
    trainer.fit(WithLoaders())
    assert trainer.test(other, batches(4)) != trainer.test()


def test_a_test_leaves_the_trainer_fit_for_a_fit() -> None:
    model, trainer = WithLoaders(), trainer_of()
    trainer.test(model)
    assert trainer.global_step == 0
    assert trainer.fit(model).counters.epochs_done == 2
    assert set(trainer.test()) == {"test_loss"}


def test_a_test_changes_nothing_in_what_a_later_fit_trains() -> None:
    first, second = twins(WithLoaders)
    trainer_of().fit(first)
    torch.manual_seed(0)
    trainer = trainer_of()
    trainer.test(second)
    torch.manual_seed(0)
    trainer.fit(second)
    assert same_bits(weights(second), weights(first))


def test_a_second_fit_does_nothing_and_warns() -> None:
    model, trainer = WithLoaders(), trainer_of()
    first = trainer.fit(model)
    before = weights(model)
    with pytest.warns(UserWarning, match="this trainer has finished its run already") as caught:
        second = trainer.fit(model)
    assert caught[0].filename == __file__
    assert same_bits(weights(model), before)
    assert second.counters == first.counters


def test_a_fit_of_another_model_with_a_finished_trainer_is_an_error() -> None:
    trainer = trainer_of()
    trainer.fit(WithLoaders())
    with pytest.raises(UsageError, match="has fitted another model already, and this one was not trained"):
        trainer.fit(Linear(), batches(4))


def test_a_run_that_only_tests_says_nothing_of_checkpoints(recwarn: pytest.WarningsRecorder, tmp_path: Path) -> None:
    """No validation is due in it, so that none is missing."""
    rule = ModelCheckpoint(monitor="val_loss", dirpath=tmp_path)
    trainer = trainer_of(early_stop_callback=True, callbacks=[rule], quiet=True)
    model = WithLoaders()
    trainer.test(model, batches(4))
    trainer.validate(model, batches(4))
    trainer_of(max_nb_epochs=0, callbacks=[rule], quiet=True).fit(model)
    assert [str(warning.message) for warning in recwarn] == []


def test_a_fit_that_failed_can_be_tried_again_with_the_same_trainer() -> None:
    class Fails(WithLoaders):
        broken = True

        def training_step(self, batch: Any, batch_nb: int) -> Any:
            if self.broken:
                raise OSError("once")
            return super().training_step(batch, batch_nb)

    model, trainer = Fails(), trainer_of()
    with pytest.raises(OSError, match="once"):
        trainer.fit(model)
    model.broken = False
    assert trainer.fit(model).counters.epochs_done == 2
    assert trainer.global_step == 8


@pytest.mark.parametrize(
    ("model", "loader", "options", "why"),
    [
        (None, None, {}, "there is no model yet"),
        (Plain(), None, {}, "no .*loader"),
        (Plain(), [], {}, "no .*loader"),
        (Plain(), [[]], {}, "have no batches"),
        (Plain(), batches(4), {"test_percent_check": 0}, "test_percent_check=0"),
        (Linear(), batches(4), {}, "Linear has no method test_step"),
    ],
    ids=["no model", "no loader", "no loaders", "no batches", "switched off", "no test_step"],
)
def test_test_without_anything_to_test_is_an_error_that_names_the_reason(
    model: Any, loader: Any, options: Any, why: str
) -> None:
    with pytest.raises(UsageError, match=f"test: .*{why}"):
        trainer_of(**options).test(model, loader)


def test_without_epochs_only_the_sanity_pass_runs() -> None:
    model = WithLoaders()
    before = weights(model)
    result = trainer_of(max_nb_epochs=0).fit(model)
    assert result.stop_reason is StopReason.NO_EPOCHS
    assert set(result.times) == {State.START, State.SANITY_VAL}
    assert result.metrics == {}
    assert same_bits(weights(model), before)


def test_a_machine_with_test_loaders_goes_on_to_the_test() -> None:
    machine = trained(Validated(), batches(4), batches(4), batches(4), max_nb_epochs=1)
    assert set(machine.result.metrics) == {"val_loss", "test_loss"}
    assert machine.result.times[State.TEST].count == 2
    assert machine.stop_reason is StopReason.MAX_EPOCHS


def test_the_metrics_of_a_result_are_plain_numbers() -> None:
    class Telling(WithLoaders):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            loss = super().training_step(batch, batch_nb)
            return {"loss": loss, "log": {"train_loss": loss}, "progress_bar": {"rate": 0.5}, "n": torch.tensor(batch_nb)}

    result = trainer_of().fit(Telling())
    assert {name: type(value) for name, value in result.metrics.items()} == dict.fromkeys(
        ("train_loss", "rate", "n", "val_loss"), float
    )
    assert result.metrics["n"] == 3.0


def test_there_is_no_result_before_the_end() -> None:
    machine = machine_of(Linear(), batches(4))
    assert machine.stop_reason is None
    with pytest.raises(UsageError, match="is in state start and has no result yet"):
        _ = machine.result


def test_before_any_run_a_trainer_has_no_machine() -> None:
    with pytest.raises(UsageError, match="no machine yet"):
        _ = trainer_of().machine
    assert (trainer_of().current_epoch, trainer_of().global_step) == (0, 0)


# ---- what hooks see


class Watching(Adversaries):
    """Writes down what it finds of its trainer in each method that a run calls."""

    def __init__(self) -> None:
        super().__init__()
        self.hparams = argparse.Namespace(learning_rate=0.25)
        self.found: list[tuple[str, int, int, bool]] = []

    def note(self, name: str) -> None:
        """What can be seen now."""
        same = self.trainer.current_epoch == self.current_epoch and self.trainer.global_step == self.global_step
        self.found.append((name, self.current_epoch, self.global_step, same))

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:
        self.note(f"training_step {batch_nb} {optimizer_i}")
        return super().training_step(batch, batch_nb, optimizer_i)

    def validation_step(self, batch: Any, batch_nb: int) -> None:
        self.note(f"validation_step {batch_nb}")

    def validation_end(self, outputs: Any) -> None:
        self.note("validation_end")

    def configure_optimizers(self) -> Any:
        self.note("configure_optimizers")
        assert self.hparams.learning_rate == 0.25
        return super().configure_optimizers()

    def on_epoch_end(self) -> None:
        self.note("on_epoch_end")

    def on_batch_end(self) -> None:
        self.note("on_batch_end")


@pytest.mark.parametrize("with_trainer", [True, False])
def test_a_model_has_its_trainer_epoch_and_step_in_every_method(with_trainer: bool) -> None:
    model = Watching()
    if with_trainer:
        trainer_of(nb_sanity_val_steps=1, val_check_interval=1.0).fit(model, batches(4), batches(2))
    else:
        trained(model, batches(4), batches(2), max_nb_epochs=2, nb_sanity_val_steps=1, val_check_interval=1.0)
    assert all(same for *_, same in model.found)
    assert [(name, epoch, step) for name, epoch, step, _ in model.found] == [
        ("configure_optimizers", 0, 0),
        ("validation_step 0", 0, 0),
        ("validation_end", 0, 0),
        *[
            (name, epoch, 2 * epoch + step)
            for epoch in range(2)
            for name, step in [
                ("training_step 0 0", 0),
                ("training_step 0 1", 0),
                ("on_batch_end", 1),
                ("training_step 1 0", 1),
                ("training_step 1 1", 1),
                ("on_batch_end", 2),
                ("validation_step 0", 2),
                ("validation_end", 2),
                ("on_epoch_end", 2),
            ]
        ],
    ]
    assert (model.current_epoch, model.global_step) == (1, 4)


def test_model_trainer_is_the_trainer_that_fits() -> None:
    class Asking(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            seen.append(self.trainer)
            return super().training_step(batch, batch_nb)

    seen: list[Any] = []
    trainer = trainer_of(max_nb_epochs=1)
    trainer.fit(Asking(), batches(2))
    machine = trained(Asking(), batches(2), max_nb_epochs=1)
    assert seen == [trainer, machine]


def test_a_module_without_a_run_has_epoch_and_step_0() -> None:
    model = TrainingModule()
    assert (model.current_epoch, model.global_step, model.trainer, model.hparams) == (0, 0, None, None)
    assert LightningModule is TrainingModule


def test_callbacks_are_called_in_order_after_the_model() -> None:
    class Both(Linear):
        def on_epoch_start(self) -> None:
            order.append("model")

    class Named(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_epoch_start(self, machine: Any) -> None:
            order.append(self.name)

    order: list[str] = []
    trained(Both(), batches(2), max_nb_epochs=2, callbacks=[Named("b"), Named("a")])
    assert order == ["model", "b", "a"] * 2


class Everything:
    """Has every hook, and is no `Callback`."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)

        def hook(machine: Any, *args: Any) -> None:
            self.calls.append(name)

        return hook


def test_every_hook_is_called_when_it_is_documented_to_be() -> None:
    """2 epochs of 2 batches in windows of 2, a check after each, and the sanity pass, which is no check."""
    hooks = Everything()
    options = {"max_nb_epochs": 2, "val_check_interval": 2, "accumulate_grad_batches": 2}
    machine = trained(Validated(), batches(4), batches(4), batches(4), callbacks=[hooks], **options)
    transitions = hooks.calls.count("on_transition")
    assert transitions == sum(spent.count for spent in machine.times.values())
    batch = ["on_batch_start", "on_batch_end"]
    epoch = ["on_epoch_start", *batch, *batch, "on_validation_start", "on_validation_end", "on_epoch_end"]
    of_the_run = {"on_run_start", *epoch, "on_run_end"}  # documentation/test_hooks_table.py has the others
    assert [name for name in hooks.calls if name in of_the_run] == ["on_run_start", *epoch, *epoch, "on_run_end"]


def test_a_batch_ends_once_under_truncated_bptt_and_with_several_optimizers() -> None:
    class Splitting(Adversaries):
        def training_step(self, batch: Any, batch_nb: int, optimizer_i: int, hiddens: Any) -> Any:  # type: ignore[override]
            return super().training_step(batch, batch_nb, optimizer_i)

        def tbptt_split_batch(self, batch: Any, split_size: int) -> list[Any]:
            return [batch] * 3

    hooks = Everything()
    machine = trained(Splitting(), batches(4), max_nb_epochs=1, truncated_bptt_steps=1, callbacks=[hooks])
    assert machine.counters.optimizer_steps == [6, 6]
    assert hooks.calls.count("on_batch_start") == hooks.calls.count("on_batch_end") == 2


# ---- what is left behind


def test_a_plain_module_is_accepted_and_has_no_trainer_afterwards() -> None:
    class Asking(Plain):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            seen.append(self.trainer)
            return super().training_step(batch, batch_nb)

    seen: list[Any] = []
    model, trainer = Asking(), trainer_of(max_nb_epochs=1)
    names = set(vars(model))
    trainer.fit(model, batches(2))
    assert seen == [trainer]
    assert set(vars(model)) == names
    trainer.test(test_dataloaders=batches(2))
    assert not hasattr(model, "trainer")


def test_a_plain_module_has_no_trainer_left_where_the_run_could_not_be_built() -> None:
    model = Plain()
    with pytest.raises(FsmtrainError):
        trainer_of().fit(model)
    assert not hasattr(model, "trainer")


def test_a_second_machine_of_a_plain_module_lends_it_itself() -> None:
    class Asking(Plain):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            seen.append(self.trainer)
            return super().training_step(batch, batch_nb)

    seen: list[Any] = []
    model = Asking()
    machine_of(model, batches(2), max_nb_epochs=1)
    second = trained(model, batches(2), max_nb_epochs=1)
    assert seen == [second]
    assert not hasattr(model, "trainer")


def test_a_plain_module_with_a_trainer_of_its_own_keeps_it() -> None:
    model = Plain()
    model.trainer = "mine"  # type: ignore[assignment]
    trained(model, batches(2), max_nb_epochs=1)
    assert model.trainer == "mine"


@pytest.mark.parametrize("make", [WithLoaders, Plain, Adversaries])
def test_a_fitted_model_can_be_copied_and_saved_whole(make: Any) -> None:
    model, trainer = make(), trainer_of()
    trainer.fit(model, batches(4))
    file = io.BytesIO()
    torch.save(model, file)
    assert len(file.getvalue()) < 50_000
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert same_bits(weights(other), weights(model))
        assert getattr(other, "trainer", None) is None
        assert other.training is model.training
        trainer_of(max_nb_epochs=1).fit(other, batches(4))
        assert not same_bits(weights(other), weights(model))
        other.load_state_dict(model.state_dict())


@pytest.mark.parametrize("base", [Linear, Plain])
def test_a_model_can_be_copied_while_its_run_goes_on(base: Any) -> None:
    """As those do who keep an average of the weights."""

    class Averaged(base):  # type: ignore[misc]
        def on_batch_end(self) -> None:
            copies.append(copy.deepcopy(self))

    copies: list[Any] = []
    model = Averaged()
    trainer_of(max_nb_epochs=1).fit(model, batches(8))
    assert len(copies) == 4
    assert same_bits(weights(copies[-1]), weights(model))


def test_the_weights_of_a_fitted_model_are_those_of_its_state_dict(tmp_path: Path) -> None:
    model = WithLoaders()
    trainer_of().fit(model)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = WithLoaders()
    other.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert same_bits(weights(other), weights(model))


def test_no_gradient_graph_or_batch_is_kept_after_a_run() -> None:
    class Heavy(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            loss = super().training_step(batch, batch_nb)
            return {"loss": loss, "train_loss": loss}

    machine = trained(Heavy(), batches(4), max_nb_epochs=1)
    assert not any(value.requires_grad for value in machine.metrics.values() if isinstance(value, torch.Tensor))


# ---- machines


def test_two_machines_of_the_same_options_share_nothing() -> None:
    options = flags(
        max_nb_epochs=3,
        accumulate_grad_batches={0: 2, 1: 1},
        early_stop_callback=EarlyStopping(patience=1),
        val_check_interval=1.0,
    )
    guards, visits = Guards(step={0: every_n_batches(2)}), TransitionRecorder()
    first, second = twins(Validated)
    alone = copy.deepcopy(first)

    def machine(model: nn.Module) -> Machine:
        return build(options, model, train_dataloader=batches(8), val_dataloaders=batches(4), guards=guards, callbacks=[visits])

    expected = machine(alone).run()
    one, two = machine(first), machine(second)
    while not (one.state.is_final and two.state.is_final):
        for each in (one, two):
            if not each.state.is_final:
                each.advance()
    assert expected.stop_reason is StopReason.EARLY_STOPPING
    assert one.result.counters == two.result.counters == expected.counters
    assert same_bits(weights(first), weights(second))
    assert one.loop.options == two.loop.options == options
    assert one.counters is not two.counters
    assert one.signals is not two.signals


def test_changing_a_dict_after_passing_it_changes_no_options() -> None:
    lengths = {0: 2}
    options = flags(accumulate_grad_batches=lengths)
    lengths[0] = 5
    assert options.accumulate_grad_batches == {0: 2}


def in_steps(machine: Machine) -> None:
    """One transition at a time."""
    while not machine.state.is_final:
        machine.advance()


def by_iteration(machine: Machine) -> None:
    """As an iterable."""
    for transition in machine:
        assert transition.source is not machine.state or transition.to is transition.source


def in_parts(machine: Machine) -> None:
    """Some transitions by hand, the rest in one go."""
    for _ in range(7):
        machine.advance()
    machine.run()


def watched(machine: Machine) -> None:
    """In one go."""
    machine.run()


@pytest.mark.parametrize("drive", [in_steps, by_iteration, in_parts, watched])
@pytest.mark.parametrize("observed", [True, False])
def test_however_a_machine_is_driven_it_does_the_same(drive: Any, observed: bool) -> None:
    def machine_of_twin(model: nn.Module) -> Machine:
        return machine_of(
            model,
            batches(20, shuffle=True),
            batches(6),
            batches(4),
            max_nb_epochs=3,
            accumulate_grad_batches=3,
            val_check_interval=0.25,
            early_stop_callback=EarlyStopping(patience=9),
            callbacks=[TransitionRecorder()] if observed else [],
        )

    first, second = twins(Perceptron)
    reference = machine_of_twin(first)
    reference.run()
    torch.manual_seed(0)
    machine = machine_of_twin(second)
    drive(machine)
    assert list(map(str, machine.trace)) == list(map(str, reference.trace))
    assert machine.result.counters == reference.result.counters
    assert machine.result.metrics == reference.result.metrics
    assert {s: t.count for s, t in machine.times.items()} == {s: t.count for s, t in reference.times.items()}
    assert same_bits(weights(first), weights(second))


def test_a_run_that_has_ended_cannot_be_advanced() -> None:
    machine = trained(Linear(), batches(2), max_nb_epochs=1)
    with pytest.raises(UsageError, match="has ended in the state done"):
        machine.advance()
    assert list(machine) == []
    assert machine.run().counters == machine.counters


def test_the_transitions_of_an_iteration_are_those_of_the_trace() -> None:
    machine = machine_of(Linear(), batches(4), max_nb_epochs=2)
    transitions = list(machine)
    assert transitions == list(machine.trace)
    assert [t.source for t in transitions[1:]] == [t.to for t in transitions[:-1]]
    assert str(transitions[1]) == "fetch -> train_batch (epoch 0, batch 0, optimizer 0)"


def test_a_stop_from_outside_ends_a_machine_between_two_transitions() -> None:
    machine = machine_of(Linear(), batches(40), max_nb_epochs=5)
    for transition in machine:
        if transition.global_step == 3:
            machine.stop()
    assert machine.stop_reason is StopReason.REQUESTED
    assert machine.global_step in (3, 4)


def test_a_stop_before_the_run_ends_it_at_its_beginning() -> None:
    model = Validated()
    before = weights(model)
    machine = machine_of(model, batches(4), batches(4))
    machine.stop()
    assert machine.run().stop_reason is StopReason.REQUESTED
    assert len(machine.trace) == 1
    assert same_bits(weights(model), before)


def test_trainer_stop_works_in_a_hook() -> None:
    class Stops(Linear):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            if batch_nb == 2:
                self.trainer.stop()
            return super().training_step(batch, batch_nb)

    trainer = trainer_of(min_nb_epochs=2)
    result = trainer.fit(Stops(), batches(10))
    assert result.stop_reason is StopReason.REQUESTED
    assert result.counters.global_step == 3


def test_trainer_stop_in_a_hook_works_also_after_a_test_in_a_hook() -> None:
    class Tests(WithLoaders):
        def on_epoch_end(self) -> None:
            tested.append(self.trainer.test())

        def training_step(self, batch: Any, batch_nb: int) -> Any:
            assert self.training
            if self.current_epoch == 1:
                self.trainer.stop()
            return super().training_step(batch, batch_nb)

    tested: list[Any] = []
    result = trainer_of(max_nb_epochs=3).fit(Tests())
    assert set(tested[0]) == {"test_loss"}
    assert result.stop_reason is StopReason.REQUESTED
    assert result.counters.global_step == 5


def test_a_stop_without_a_run_is_harmless() -> None:
    trainer = trainer_of()
    trainer.stop()
    assert trainer.fit(WithLoaders()).stop_reason is StopReason.MAX_EPOCHS


def test_a_stop_after_one_run_does_not_end_the_next() -> None:
    trainer = trainer_of()
    trainer.test(WithLoaders())
    trainer.stop()
    assert trainer.fit(WithLoaders()).stop_reason is StopReason.MAX_EPOCHS


# ---- flags


def test_a_trainer_has_the_flags_of_the_options() -> None:
    trainer = trainer_of(accumulate_grad_batches=4, val_check_interval=0.25)
    assert isinstance(trainer, Options)
    assert (trainer.max_nb_epochs, trainer.accumulate_grad_batches) == (2, 4)
    with pytest.raises(AttributeError):
        trainer.max_nb_epochs = 3  # type: ignore[misc]


def test_an_unknown_flag_is_refused_with_its_name_here() -> None:
    with pytest.raises(OptionsError, match=r"max_epochs=3: there is no such flag\. Its name here is max_nb_epochs"):
        Trainer(max_epochs=3)  # type: ignore[call-arg]


def test_guards_and_callbacks_of_a_trainer_reach_its_machine() -> None:
    visits = TransitionRecorder()
    trainer = trainer_of(guards=Guards(step={0: every_n_batches(2)}), callbacks=[visits], max_nb_epochs=1)
    trainer.fit(Linear(functools.partial(SGD, lr=0.1)), batches(8))
    assert visits.batches_of(State.STEP) == [1, 3]
    assert trainer.machine.global_step == trainer.global_step == 2


def test_callbacks_may_be_an_iterator() -> None:
    visits = TransitionRecorder()
    trainer = trainer_of(callbacks=iter([visits]))
    trainer.test(Validated(), batches(2))
    seen = len(visits.seen)
    trainer.fit(Validated(), batches(2))
    assert 0 < seen < len(visits.seen)


def test_a_stream_can_be_fitted_with_the_facade() -> None:
    stream = torch.utils.data.DataLoader(Stream(batches(6).dataset, 6), batch_size=2)
    assert trainer_of(max_nb_epochs=2).fit(Linear(), stream).counters.global_step == 6


def test_resume_anyway_is_answered_with_resume_strict() -> None:
    with pytest.raises(OptionsError, match=r"resume_anyway=True: .* is resume_strict; pass resume_strict=False\."):
        Trainer(resume_anyway=True)  # type: ignore[call-arg]


def test_help_begins_with_an_example_and_where_to_start_and_that_of_seed_names_the_initial_weights() -> None:
    beginning = (fsmtrain.__doc__ or "").split("Start with", 1)
    assert ".fit(model" in beginning[0]
    assert beginning[1].lstrip().startswith("``help(fsmtrain.Trainer)``")
    assert "torch.manual_seed(7)" in (Trainer.__doc__ or "")
