"""The mode in which a fit begins, and that every part keeps its own through passes, errors and resuming."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fsmtrain import Callback, ModelCheckpoint, State
from fsmtrain.runtime.train_mode import enter_train_mode
from tests.models import Validated, batches, machine_of, trained


class Parts(Validated):
    """A backbone with batch statistics and dropout, and a head. Writes down the modes that it trains in."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
        self.head = nn.Linear(3, 1)
        self.layer = nn.Sequential(self.backbone, self.head)
        self.seen: list[dict[str, bool]] = []

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        self.seen.append(modes(self))
        return super().training_step(batch, batch_nb)


def modes(model: nn.Module) -> dict[str, bool]:
    """The mode of each part."""
    return {name: module.training for name, module in model.named_modules()}


def told(model: nn.Module) -> list[str]:
    """What `enter_train_mode` warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        enter_train_mode(model)
    return [str(warning.message) for warning in caught]


FLAGS = st.lists(st.booleans(), min_size=7, max_size=7)


@given(FLAGS)
def test_a_model_in_train_mode_keeps_the_mode_of_every_part(flags: list[bool]) -> None:
    model = Parts()
    for module, training in zip(model.modules(), [True, *flags], strict=False):
        module.training = training
    before = modes(model)
    messages = told(model)
    assert modes(model) == before
    assert len(messages) == (not all(before.values()))


@given(FLAGS)
def test_a_model_in_eval_mode_is_put_into_train_mode_as_a_whole(flags: list[bool]) -> None:
    model = Parts()
    for module, training in zip(model.modules(), [False, *flags], strict=False):
        module.training = training
    assert told(model) == []
    assert all(modes(model).values())


def test_parts_in_eval_mode_are_named_without_what_is_inside_of_them() -> None:
    model = Parts()
    model.backbone.eval()
    [message] = told(model)
    assert message.startswith("fit: these parts of Parts are in eval mode and stay in it: 'backbone'. ")


def test_a_long_list_of_parts_is_cut() -> None:
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(8)))
    for part in model:
        part.eval()
    assert "'0', '1', '2', '3', '4' and 3 more" in told(model)[0]


def test_frozen_parts_that_are_put_into_train_mode_are_named() -> None:
    model = Parts().eval()
    model.backbone.requires_grad_(False)
    [message] = told(model)
    assert "model.train() was called, also for parts in which no parameter requires grad: 'backbone'" in message
    assert model.backbone.training


# ---- in a run


def frozen() -> Parts:
    model = Parts()
    model.backbone.requires_grad_(False).eval()
    return model


def run_quietly(machine: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return machine.run()


def test_a_frozen_backbone_keeps_its_statistics_through_sanity_validation_and_test() -> None:
    model = frozen()
    before, start = modes(model), model.backbone[1].running_mean.clone()  # type: ignore[operator]
    machine = machine_of(model, batches(8), batches(4), batches(4), max_nb_epochs=2, val_check_interval=1)
    run_quietly(machine)
    assert model.seen == [before] * 8
    assert modes(model) == before
    assert torch.equal(model.backbone[1].running_mean, start)  # type: ignore[arg-type]


def test_the_report_comes_once_and_only_when_the_run_begins() -> None:
    model = frozen()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        machine = machine_of(model, batches(8), batches(4), max_nb_epochs=2)
        assert not [w for w in caught if "eval mode" in str(w.message)]
        machine.run()
    assert len([w for w in caught if "eval mode" in str(w.message)]) == 1


@pytest.mark.parametrize("at", ["validation_step", "validation_end", "training_step", "test_step"])
def test_the_modes_are_restored_after_an_exception(at: str) -> None:
    def fail(*args: Any) -> Any:
        raise ValueError(at)

    model = frozen()
    before = modes(model)
    setattr(model, at, fail)
    with pytest.raises(ValueError, match=at):
        run_quietly(machine_of(model, batches(8), batches(4), batches(4), max_nb_epochs=1))
    assert modes(model) == before


class Thawing(Callback):
    """Puts the backbone back into train mode in the second epoch."""

    def on_epoch_start(self, machine: Any) -> None:
        if machine.current_epoch == 1:
            machine.model.backbone.train()


@pytest.mark.parametrize("stop_in", [State.ROUND_END, State.VAL_CHECK, State.EARLY_STOP, State.SANITY_VAL])
@pytest.mark.parametrize("visits", [1, 3, 5])
def test_a_resumed_run_goes_on_in_the_modes_of_the_saved_one(stop_in: State, visits: int, tmp_path: Any) -> None:
    def machine(model: Parts) -> Any:
        callbacks = [Thawing(), ModelCheckpoint(dirpath=tmp_path)]
        return machine_of(
            model, batches(8), batches(8), max_nb_epochs=3, val_check_interval=2, nb_sanity_val_steps=2, callbacks=callbacks
        )

    whole = frozen()
    run_quietly(machine(whole))
    first = frozen()
    stopped, met = machine(first), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for transition in stopped:
            met += transition.to is stop_in
            if met == visits:
                stopped.stop()
        if stopped.state is not State.STOPPED:
            pytest.skip("the run ended before")
        second = Parts()  # in train mode as a whole: the checkpoint has the modes
        resumed = machine(second)
        resumed.resume(tmp_path)
        resumed.run()
    assert first.seen + second.seen == whole.seen
    assert modes(second) == modes(whole)


def test_a_test_by_itself_leaves_the_modes() -> None:
    model = frozen()
    before = modes(model)
    trained(model, None, None, batches(4), max_nb_epochs=0)
    assert modes(model) == before
