"""A run that is resumed with other settings of optimizers and schedulers: each difference is reported; new ones on request."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adam, lr_scheduler

from fsmtrain import Callback, ModelCheckpoint, Trainer, TrainingModule
from fsmtrain.errors import ResumeError

BATCHES = [torch.full((1, 2), 0.1 * i) for i in range(4)]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Model(TrainingModule):
    """Writes down the learning rates with which it trains."""

    def __init__(self, configure: Callable[[Any], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.configure = torch.nn.Linear(2, 1), configure
        self.rates: list[float] = []

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return self.layer(batch).mean()

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        return {"val_loss": torch.tensor(1.0)}

    def configure_optimizers(self) -> Any:
        returned = self.configure(self.parameters())
        self.optimizer = returned if isinstance(returned, torch.optim.Optimizer) else returned[0][0]
        return returned


def run(configure: Callable[[Any], Any], epochs: int, **more: Any) -> Model:
    model = Model(configure)
    options = {"runs_dir": None, "quiet": True, "max_nb_epochs": epochs, **more}
    Trainer(callbacks=[ModelCheckpoint(dirpath="saved")], **options).fit(model, BATCHES, [BATCHES[0]])
    return model


def resumed(configure: Callable[[Any], Any], epochs: int = 5, **more: Any) -> tuple[Model, str]:
    """Resume, and return the model with all that was warned."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = run(configure, epochs, resume="saved", **more)
    return model, "\n".join(str(warning.message) for warning in caught)


def with_schedule(make: Callable[[Any], Any], lr: float = 1.0, **options: Any) -> Callable[[Any], Any]:
    """Return a function that makes an optimizer with a schedule."""

    def configure(parameters: Any) -> Any:
        optimizer = SGD(parameters, lr, **options)
        return [optimizer], [make(optimizer)]

    return configure


# Each: a schedule and another one of its kind, and the setting that differs, as it is reported.
SCHEDULES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], str]] = {
    "lr": (
        lambda o: lr_scheduler.StepLR(o, 1), lambda o: lr_scheduler.StepLR(o, 1),
        "optimizer 0 (SGD): lr=0.5, checkpoint has 1.0",
    ),
    "gamma": (
        lambda o: lr_scheduler.ExponentialLR(o, 0.9), lambda o: lr_scheduler.ExponentialLR(o, 0.5),
        "scheduler 0 (ExponentialLR): gamma=0.5, checkpoint has 0.9",
    ),
    "T_max": (
        lambda o: lr_scheduler.CosineAnnealingLR(o, 6), lambda o: lr_scheduler.CosineAnnealingLR(o, 12),
        "scheduler 0 (CosineAnnealingLR): T_max=12, checkpoint has 6",
    ),
    "milestones": (
        lambda o: lr_scheduler.MultiStepLR(o, [1, 4]), lambda o: lr_scheduler.MultiStepLR(o, [2, 3]),
        "milestones=[[2, 1], [3, 1]], checkpoint has [[1, 1], [4, 1]]",
    ),
    "lambda": (
        lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
        lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.5**epoch),
        "lr_lambdas=['lambda epoch: 0.5 ** epoch'], checkpoint has ['lambda epoch: 0.9 ** epoch']",
    ),
    "sequence": (
        lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.StepLR(o, 2)], [3]),
        lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.LinearLR(o, 0.5, total_iters=2), lr_scheduler.StepLR(o, 1)], [2]),
        "part 0 (LinearLR): start_factor=0.5, checkpoint has 0.1",
    ),
    "warm restarts": (
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2), lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
        "T_0=3, checkpoint has 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SCHEDULES)
def test_with_new_settings_a_run_continues_as_if_it_had_had_them_from_the_beginning(kind: str) -> None:
    before, after, text = SCHEDULES[kind]
    lr = 0.5 if kind == "lr" else 1.0
    run(with_schedule(before), 3)
    model, told = resumed(with_schedule(after, lr), resume_new_settings=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = Model(with_schedule(after, lr))
        Trainer(runs_dir=None, quiet=True, max_nb_epochs=5).fit(whole, BATCHES, [BATCHES[0]])
    assert model.rates == pytest.approx(whole.rates[12:], rel=1e-12)
    assert "new settings" in told
    assert text in told


@pytest.mark.parametrize("kind", [kind for kind in SCHEDULES if kind != "lambda"])
def test_without_it_a_run_continues_with_the_saved_settings_and_each_difference_is_reported(kind: str) -> None:
    before, after, text = SCHEDULES[kind]
    run(with_schedule(before), 3)
    model, told = resumed(with_schedule(after, 0.5 if kind == "lr" else 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = Model(with_schedule(before))
        Trainer(runs_dir=None, quiet=True, max_nb_epochs=5).fit(whole, BATCHES, [BATCHES[0]])
    assert model.rates == whole.rates[12:]
    assert text in told
    assert "resume_new_settings=True" in told


def test_the_same_settings_are_not_reported() -> None:
    for before, _, _ in SCHEDULES.values():
        run(with_schedule(before, momentum=0.9, weight_decay=0.1), 2)
        _, told = resumed(with_schedule(before, momentum=0.9, weight_decay=0.1), 2)
        assert "settings" not in told


def test_settings_of_the_optimizer_itself() -> None:
    run(lambda p: Adam(p, 0.1, betas=(0.9, 0.99), weight_decay=0.0), 2)
    other: Any = lambda p: Adam(p, 0.2, betas=(0.8, 0.99), weight_decay=0.5)  # noqa: E731
    model, told = resumed(other, 3)
    assert model.rates == [0.1] * 4
    for text in (
        "lr=0.2, checkpoint has 0.1",
        "betas=[0.8, 0.99], checkpoint has [0.9, 0.99]",
        "weight_decay=0.5, checkpoint has 0.0",
    ):
        assert f"optimizer 0 (Adam): {text}" in told
    run(lambda p: Adam(p, 0.1, betas=(0.9, 0.99)), 2)
    model, _ = resumed(other, 3, resume_new_settings=True)
    group = model.optimizer.param_groups[0]
    assert (model.rates, group["betas"], group["weight_decay"]) == ([0.2] * 4, (0.8, 0.99), 0.5)
    assert model.optimizer.state[model.layer.weight]["step"] == 12


def test_what_is_in_force_is_what_a_later_checkpoint_is_compared_with() -> None:
    run(lambda p: SGD(p, 1.0), 1)
    resumed(lambda p: SGD(p, 0.1), 2, resume_new_settings=True)
    _, told = resumed(lambda p: SGD(p, 0.1), 3)
    assert "settings" not in told
    resumed(lambda p: SGD(p, 0.5), 4)  # the saved 0.1 is kept
    model, told = resumed(lambda p: SGD(p, 0.5), 5)
    assert "lr=0.5, checkpoint has 0.1" in told
    assert model.rates == [0.1] * 4


@pytest.mark.parametrize("new", [False, True])
def test_a_one_cycle_schedule_for_a_longer_run_continues_at_its_step(new: bool) -> None:
    def configure(total: int) -> Callable[[Any], Any]:
        def make(parameters: Any) -> Any:
            optimizer = SGD(parameters, 1.0, momentum=0.9)
            return [optimizer], [{"scheduler": lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=total), "interval": "step"}]

        return make

    run(configure(8), 2)
    model, told = resumed(configure(16), 4, resume_new_settings=new)
    whole = Model(configure(16))
    Trainer(runs_dir=None, quiet=True, max_nb_epochs=4).fit(whole, BATCHES, [BATCHES[0]])
    assert model.rates == pytest.approx(whole.rates[8:])
    assert "total_steps=16, checkpoint has 8" in told


def test_a_plateau_schedule_keeps_its_count_under_new_settings() -> None:
    def plateau(factor: float) -> Callable[[Any], Any]:
        return with_schedule(lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=factor, patience=1))

    run(plateau(0.5), 2)
    model, told = resumed(plateau(0.1), 4, resume_new_settings=True)
    assert "factor=0.1, checkpoint has 0.5" in told
    assert model.rates == pytest.approx([1.0] * 4 + [0.1] * 4)


def test_an_interval_is_not_saved_so_that_of_this_run_is_used_and_reported() -> None:
    def configure(interval: str) -> Callable[[Any], Any]:
        return with_schedule(lambda o: {"scheduler": lr_scheduler.StepLR(o, 1, 0.5), "interval": interval})

    run(configure("epoch"), 2)
    _, told = resumed(configure("step"), 3)
    assert "schedulers are resumed with new settings: scheduler 0 (StepLR): interval='step', checkpoint has 'epoch'" in told


# ---- parameter groups that are added on the way


class Unfreeze(Callback):
    """Adds a parameter group at an epoch."""

    def __init__(self, at: int, parameters: Callable[[Any], Any]) -> None:
        self.at, self.parameters = at, parameters

    def on_epoch_start(self, machine: Any) -> None:
        if machine.current_epoch == self.at:
            parameters = self.parameters(machine.model)
            for parameter in parameters:
                parameter.requires_grad_(True)
            machine.optimizers[0].add_param_group({"params": parameters, "lr": 0.01})


class TwoLayers(TrainingModule):
    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.back, self.head, self.groups = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1), groups
        self.back.requires_grad_(False)

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return self.head(self.back(batch)).pow(2).mean()

    def configure_optimizers(self) -> Any:
        optimizer = Adam(self.head.parameters(), lr=0.1)
        if self.groups > 1:
            optimizer.add_param_group({"params": list(self.back.parameters())})
        return optimizer


def unfreezing(epochs: int, add: Any = lambda m: list(m.back.parameters()), groups: int = 1, **more: Any) -> TwoLayers:
    model = TwoLayers(groups)
    callbacks = [ModelCheckpoint(dirpath="saved"), Unfreeze(2, add)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(runs_dir=None, quiet=True, max_nb_epochs=epochs, callbacks=callbacks, **more).fit(model, BATCHES)
    return model


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_a_group_that_was_added_on_the_way_is_added_again(cut: int) -> None:
    whole = unfreezing(5)
    unfreezing(cut)
    model = unfreezing(5, resume="saved")
    assert all(map(torch.equal, model.parameters(), whole.parameters()))


def test_new_settings_leave_an_added_group_as_it_was() -> None:
    unfreezing(3)
    model = unfreezing(4, resume="saved", resume_new_settings=True)
    assert model.back.weight.requires_grad


def test_a_group_that_is_not_of_the_model_is_reported_when_it_is_saved_and_refused_on_resume() -> None:
    extra = torch.nn.Parameter(torch.ones(1))
    model = TwoLayers()
    callbacks = [ModelCheckpoint(dirpath="saved"), Unfreeze(2, lambda m: [extra])]
    with pytest.warns(UserWarning, match="a parameter group was added during the run whose parameters are not the model's"):
        Trainer(runs_dir=None, quiet=True, max_nb_epochs=4, callbacks=callbacks).fit(model, BATCHES)
    with pytest.raises(ResumeError, match="the saved run had added this group of 1 parameter"):
        unfreezing(5, resume="saved")


def test_a_run_with_more_groups_than_the_checkpoint_is_refused_with_the_way_out() -> None:
    unfreezing(1)
    with pytest.raises(ResumeError, match="it has 2 parameter groups, checkpoint has 1"):
        unfreezing(5, groups=2, resume="saved")
