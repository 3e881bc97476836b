"""The table of docs/hooks.md: which hooks there are, what each gets, and in which order a real run calls them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD

from fsmtrain import Callback, Machine, ModelCheckpoint, Trainer
from fsmtrain.runtime.hooks.callback import HOOKS
from tests.models import Validated, batches, machine_of

PAGE = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text()
TABLE = re.findall(r"^\| `(\w+)` \|(.*?)\| (.*) \|$", PAGE, re.MULTILINE)
ORDERED = [hook for hook, _, _ in TABLE]
AT_ANY_TIME = ["on_save_checkpoint", "on_load_checkpoint", "on_exception", "on_transition"]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Traced:
    """Records the calls of all its hooks, with their arguments."""

    def __init__(self, calls: list[tuple[Any, ...]], *, of_model: bool) -> None:
        for name in HOOKS:
            setattr(self, name, _record(name, calls, of_model=of_model))


def _record(name: str, calls: list[tuple[Any, ...]], *, of_model: bool) -> Any:
    def call(*args: Any) -> None:
        assert of_model or isinstance(args[0], Machine)
        calls.append((name, *(args if of_model else args[1:])))

    def with_stage(*args: Any, stage: Any = None) -> None:
        call(*args)

    return with_stage if name in ("setup", "teardown") else call


class Pair(Validated):
    """Two optimizers that take turns."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        vars(self).update(vars(Traced(self.calls, of_model=True)))

    def training_step(self, batch: Any, batch_nb: int, optimizer_i: int) -> Any:  # type: ignore[override]
        return {"loss": self.loss(batch), "turn": optimizer_i}

    def configure_optimizers(self) -> Any:
        return [SGD([parameter], lr=0.1) for parameter in self.parameters()]


class One(Pair):
    """The same with one optimizer."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:  # type: ignore[override]
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.1)

    def predict_step(self, batch: Any, batch_nb: int) -> Any:
        return self.layer(batch[0])


def test_the_table_has_every_hook_with_its_arguments() -> None:
    assert sorted(ORDERED) == sorted(HOOKS)
    for hook, gets, _ in TABLE:
        parameters = list(inspect.signature(getattr(Callback, hook)).parameters)
        assert parameters[:2] == ["self", "machine"]
        assert re.findall(r"`(\w+)`", gets) == parameters[2:], hook


def test_a_run_meets_the_hooks_in_the_order_of_the_table_and_each_gets_what_it_says() -> None:
    model, calls = One(), list[tuple[Any, ...]]()
    machine = machine_of(
        model,
        batches(4),
        batches(2),
        batches(2),
        callbacks=[Traced(calls, of_model=False)],
        max_nb_epochs=1,
        nb_sanity_val_steps=0,
    )
    machine.run()
    assert [call[0] for call in calls] == [call[0] for call in model.calls], "the model's and the callback's are the same"
    predicting = One()
    trainer = Trainer(runs_dir=None, quiet=True, callbacks=[Traced(calls, of_model=False)])
    trainer.predict(predicting, batches(2))
    told = [call[0] for call in predicting.calls]
    ordered_of_fit = [hook for hook in ORDERED if not hook.startswith("on_predict")]
    of_fit = dict.fromkeys(call[0] for call in model.calls)
    assert [hook for hook in of_fit if hook not in AT_ANY_TIME] == [hook for hook in ordered_of_fit if hook not in AT_ANY_TIME]
    of_predict = [hook for hook in ORDERED if hook in told and hook not in AT_ANY_TIME]
    assert [hook for hook in dict.fromkeys(told) if hook not in AT_ANY_TIME] == of_predict
    assert {*of_fit, *told} >= {hook for hook in ORDERED if hook not in AT_ANY_TIME}
    gets = {hook: len(re.findall("`", text)) // 2 for hook, text, _ in TABLE}
    assert all(len(call) - 1 == gets[call[0]] for call in (*model.calls, *predicting.calls))


def expected(epochs: int, train: int, window: int, sanity: bool) -> Iterator[str]:
    """The trace of two optimizers with a validation in mid-epoch and at its end, and saves there, as nested loops."""

    def evaluated(kind: str, n: int) -> Iterator[str]:
        if kind == "sanity":
            yield "on_save_checkpoint"
            kind = "validation"
        yield f"on_{kind}_epoch_start"
        for nb in range(n):
            yield f"on_{kind}_batch_start {nb}"
            yield f"on_{kind}_batch_end {nb}"
        yield f"on_{kind}_epoch_end"

    yield from ("setup fit", "setup test", "on_run_start", "on_fit_start")
    if sanity:
        yield from evaluated("sanity", 1)
    yield "on_train_start"
    for _ in range(epochs):
        yield from ("on_epoch_start", "on_train_epoch_start")
        for nb in range(train):
            yield from ("on_batch_start", f"on_train_batch_start {nb}")
            for i in range(2):
                yield from ("on_before_backward", "on_after_backward")
                if (nb + 1) % window == 0 or nb + 1 == train:
                    yield from (f"on_before_optimizer_step {i}", f"on_before_zero_grad {i}", f"on_after_optimizer_step {i}")
            yield from ("on_batch_end", f"on_train_batch_end {nb}")
            if (nb + 1) % 3 == 0:
                yield "on_save_checkpoint"
                yield from ("on_save_checkpoint", "on_validation_start")  # as it was before, should the run stop within it
                yield from evaluated("validation", 2)
                yield "on_validation_end"
        yield from ("on_train_epoch_end", "on_epoch_end")
    yield from ("on_save_checkpoint", "on_train_end", "on_fit_end", "on_save_checkpoint", "on_test_start")
    yield from evaluated("test", 2)
    yield from ("on_test_end", "on_run_end", "teardown test", "teardown fit")


@pytest.mark.parametrize("sanity", [False, True])
def test_every_hook_of_a_run_with_accumulation_two_optimizers_validation_and_test(sanity: bool) -> None:
    model, calls = Pair(), list[tuple[Any, ...]]()
    callbacks = [Traced(calls, of_model=False), ModelCheckpoint(every_n_batches=3)]
    machine = machine_of(
        model,
        *(batches(8), batches(4), batches(4)),
        callbacks=callbacks,
        max_nb_epochs=2,
        accumulate_grad_batches=2,
        val_check_interval=3,
        nb_sanity_val_steps=int(sanity),
    )
    machine.run()
    for own in (model.calls, calls):
        told = [describe(machine, *call) for call in own if call[0] != "on_transition"]
        assert told == list(expected(2, 4, 2, sanity))
    outputs, batch, nb = next(call[1:] for call in calls if call[0] == "on_train_batch_end")
    assert [output["turn"] for output in outputs] == [0, 1]
    assert not any(output["loss"].requires_grad for output in outputs)
    assert len(batch) == 2
    assert nb == 0


def describe(machine: Machine, name: str, *args: Any) -> str:
    """Return a hook's name, with a stage, an optimizer's index or a batch's index."""
    last = {"setup": 0, "teardown": 0}.get(name)
    if name.endswith(("_batch_start", "_batch_end")) and name not in ("on_batch_start", "on_batch_end"):
        last = {"on_train_batch_start": 1, "on_train_batch_end": 2}.get(name, 1 if name.endswith("start") else 2)
    if last is not None:
        return f"{name} {args[last]}"
    return f"{name} {machine.optimizers.index(args[0])}" if "optimizer_step" in name or "zero_grad" in name else name


def test_validate_test_and_predict_call_the_hooks_of_their_pass_alone() -> None:
    torch.manual_seed(0)
    trainer = Trainer(runs_dir=None, quiet=True, progress_bar=False)
    calls = (
        (trainer.validate, "validate", "validation"),
        (trainer.test, "test", "test"),
        (trainer.predict, "predict", "predict"),
    )
    for call, stage, kind in calls:
        model = One()
        call(model, batches(2))
        passed = [f"on_{kind}{what}" for what in ("_start", "_epoch_start", "_batch_start", "_batch_end", "_epoch_end", "_end")]
        told = [describe_stage(*own) for own in model.calls if own[0] != "on_transition"]
        assert told == [f"setup {stage}", "on_run_start", *passed, "on_run_end", f"teardown {stage}"]


def describe_stage(name: str, *args: Any) -> str:
    """Return a hook's name, with its stage."""
    return f"{name} {args[0]}" if name in ("setup", "teardown") else name
