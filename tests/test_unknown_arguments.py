"""Wrong arguments of public calls: each is our error, with the name here, the way out, or the most similar name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain import (
    EarlyStopping,
    FsmtrainError,
    Guards,
    Loop,
    ModelCheckpoint,
    Options,
    SeededDataLoader,
    Sizes,
    Trainer,
    build,
    check,
    draw,
    plan,
    unknown_arguments,
)
from fsmtrain.errors import ArgumentError, RenamedError

MODEL = torch.nn.Linear(1, 1)
TRAINER = Trainer(runs_dir=None, quiet=True)

# The public calls, by their names in the tables.
CALLS: dict[str, Callable[..., Any]] = {
    "Trainer.fit": lambda **keywords: TRAINER.fit(MODEL, **keywords),
    "Trainer.test": lambda **keywords: TRAINER.test(MODEL, **keywords),
    "Trainer.validate": lambda **keywords: TRAINER.validate(MODEL, **keywords),
    "Trainer.save_checkpoint": lambda **keywords: TRAINER.save_checkpoint("path", **keywords),
    "build": lambda **keywords: build(Options(), MODEL, **keywords),
    "plan": lambda **keywords: plan(Options(), **keywords),
    "check": lambda **keywords: check(Options(), **keywords),
    "draw": lambda **keywords: draw(Options(), "path", **keywords),
    "Loop": lambda **keywords: Loop(Options(), Sizes(train=1), **keywords),
    "Sizes": Sizes,
    "Guards": Guards,
    "EarlyStopping": EarlyStopping,
    "ModelCheckpoint": ModelCheckpoint,
    "SeededDataLoader": lambda **keywords: SeededDataLoader(range(3), **keywords),
}

CASES = [
    ("Trainer.fit", "train_dataloaders", r"Its name here is train_dataloader: fit\(train_dataloader=\.\.\.\)"),
    ("Trainer.fit", "val_dataloader", r"Its name here is val_dataloaders"),
    ("Trainer.fit", "dataloader", r"Its name here is train_dataloader or val_dataloaders"),
    ("Trainer.fit", "ckpt_path", r"Trainer\(resume="),
    ("Trainer.fit", "max_epochs", r"It is a flag of Options and Trainer: max_nb_epochs="),
    ("Trainer.fit", "max_nb_epochs", r"It is a flag of Options and Trainer: max_nb_epochs="),
    ("Trainer.fit", "profiler", r"machine\.times"),
    ("Trainer.test", "dataloaders", r"Its name here is test_dataloaders"),
    ("Trainer.validate", "dataloaders", r"Its name here is val_dataloaders"),
    ("build", "train_loader", r"Its name here is train_dataloader"),
    ("build", "accumulate_grad_batches", r"It is a flag of Options and Trainer: accumulate_grad_batches="),
    ("plan", "train_batches", r"Its name here is train: plan\(train="),
    ("draw", "trian", r"Did you mean train\?"),
    ("Loop", "train", r"Loop\(options, Sizes\(train="),
    ("Guards", "check", r"Its name here is validate: Guards\(validate="),
    ("ModelCheckpoint", "every_n_train_steps", r"Its name here is every_n_steps"),
    ("ModelCheckpoint", "save_last", r"newest checkpoint is always kept"),
    ("EarlyStopping", "stopping_threshold", r"Guards\(stop="),
    ("SeededDataLoader", "sampler", r"use a DataLoader"),
]


@pytest.mark.parametrize(("call", "name", "way_out"), CASES)
def test_a_keyword_of_another_trainer_is_refused_with_its_name_here_or_the_way_out(call: str, name: str, way_out: str) -> None:
    short = call.rpartition(".")[2]
    with pytest.raises(FsmtrainError, match=rf"^{short}\({name}=\.\.\.\): there is no such argument\. .*{way_out}") as raised:
        CALLS[call](**{name: 1})
    assert isinstance(raised.value, TypeError)


@given(call=st.sampled_from(sorted(CALLS)), name=st.from_regex(r"[a-z_]{1,12}\Z"))
def test_any_unknown_keyword_of_a_public_call_is_our_type_error_that_names_it(call: str, name: str) -> None:
    owner, _, method = call.rpartition(".")
    named = getattr(Trainer, method) if owner else globals()[call]
    known = {*inspect.signature(named).parameters, *inspect.signature(Sizes).parameters}
    if name in known:
        return
    with pytest.raises((ArgumentError, RenamedError), match=re.escape(f"({name}=...): there is no such argument. ")):
        CALLS[call](**{name: 1})


def test_each_name_in_the_tables_is_unknown_to_the_calls_that_it_is_refused_by() -> None:
    """A name that has become an argument must leave the tables."""
    for call, names in unknown_arguments._WAYS_OUT.items():
        owner, _, method = call.rpartition(".")
        named = getattr(Trainer, method) if owner else globals()[call]
        assert not names.keys() & inspect.signature(named).parameters.keys(), call
    for here, names_elsewhere in unknown_arguments._NAMES_ELSEWHERE.items():
        assert here not in names_elsewhere


@pytest.mark.parametrize("cls", [Options, Trainer])
@pytest.mark.parametrize("value", [20, "cpu", Options()])
def test_a_flag_without_its_name_is_an_error_that_shows_the_form(cls: Any, value: object) -> None:
    with pytest.raises(ArgumentError, match=rf"{cls.__name__}\(.{{1,60}}\): a flag must be passed by its name, as in"):
        cls(value)


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        (ModelCheckpoint, ["folder"], "ModelCheckpoint: too many positional arguments. Its arguments are monitor, "),
        (EarlyStopping, ["val_loss", 3], "EarlyStopping: too many positional arguments. Its arguments are monitor, "),
        (Trainer.fit, [TRAINER], "fit: missing a required argument: 'model'. Its arguments are model, train_dataloader"),
        (build, [Options()], "build: missing a required argument: 'model'. Its arguments are options, model, "),
    ],
)
def test_missing_and_superfluous_arguments_are_our_errors_with_the_names(
    call: Callable[..., object], arguments: list[Any], message: str
) -> None:
    with pytest.raises(ArgumentError, match=re.escape(message)):
        call(*arguments)


def test_a_decorated_call_keeps_its_signature_and_its_docstring() -> None:
    parameters = ["self", "model", "train_dataloader", "val_dataloaders", "datamodule"]
    assert list(inspect.signature(Trainer.fit).parameters) == parameters
    assert list(inspect.signature(Guards).parameters) == ["step", "validate", "save", "stop", "save_at_end"]
    assert (Trainer.fit.__doc__ or "").startswith("Train a model.")
