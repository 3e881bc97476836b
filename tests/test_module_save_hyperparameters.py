"""``save_hyperparameters``: which arguments it keeps, where they are recorded, and how a model is built from them again."""

from __future__ import annotations

import argparse
import copy
import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD

from fsmtrain import FsmtrainError, ModelCheckpoint, Options, Trainer, TrainingModule, build
from fsmtrain.errors import ModelError
from tests.models import batches


class Model(TrainingModule):
    """Linear regression; subclasses make its part, and save hyperparameters."""

    linear: nn.Module

    def training_step(self, batch: Any, batch_nb: int) -> Tensor:
        out: Tensor = self.linear(batch[0])
        return out.pow(2).mean()

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.1)


class Saving(Model):
    def __init__(self, lr: float = 0.1, *args: Any, hidden: int = 64, **more: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.save_hyperparameters()


class Derived(Saving):
    def __init__(self, size: int, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)


THREE = np.int64(3)


class Color(StrEnum):
    RED = "red"


@dataclass
class Config:
    lr: float = 0.1
    layers: list[int] = field(default_factory=lambda: [1, 2])


def fitted(model: nn.Module, **flags: Any) -> Trainer:
    defaults: dict[str, Any] = {"max_nb_epochs": 1, "progress_bar": False, "quiet": True, "device": "cpu", "runs_dir": None}
    trainer = Trainer(**(defaults | flags))
    trainer.fit(model, batches(4))
    return trainer


def reloaded(model: TrainingModule, tmp_path: Path, **arguments: Any) -> Any:
    fitted(model).save_checkpoint(tmp_path / "model.ckpt")
    return type(model).load_from_checkpoint(tmp_path / "model.ckpt", **arguments)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(lr=PLAIN, hidden=PLAIN, more=st.dictionaries(st.sampled_from(["a", "b", "items", "keys"]), PLAIN))
def test_the_class_called_with_its_hyperparameters_has_them_again(lr: Any, hidden: Any, more: dict[str, Any]) -> None:
    model = Saving(lr, hidden=hidden, **more)
    assert vars(model.hparams) == {"lr": lr, "hidden": hidden, **more}
    assert vars(Saving(**vars(model.hparams)).hparams) == vars(model.hparams)


def test_defaults_and_keywords_are_kept_and_a_file_restores_them(tmp_path: Path) -> None:
    model = Saving(0.2, z=3)
    assert (model.hparams.lr, model.hparams["hidden"], dict(model.hparams)) == (0.2, 64, {"lr": 0.2, "hidden": 64, "z": 3})
    assert (model.hparams.get("absent", 1), "lr" in model.hparams, len(model.hparams)) == (1, True, 3)
    assert dict(reloaded(model, tmp_path).hparams) == dict(model.hparams)


def test_a_base_class_keeps_the_arguments_of_the_subclass_too(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what was in *args has reached the base class's parameter
        model = Derived(5, 0.25, z=1)
    assert dict(model.hparams) == {"lr": 0.25, "hidden": 64, "z": 1, "size": 5}
    assert dict(reloaded(model, tmp_path).hparams) == dict(model.hparams)


def test_arguments_without_a_name_are_not_kept_and_a_warning_shows_them() -> None:
    with pytest.warns(UserWarning, match=r"\*args of __init__ have no names, so \[7, 8\] is not kept"):
        assert dict(Saving(0.1, 7, 8).hparams) == {"lr": 0.1, "hidden": 64}


def test_a_base_class_s_own_argument_is_left_out_when_the_subclass_is_built_again(tmp_path: Path) -> None:
    class Base(Model):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.linear = nn.Linear(3, width)

    class Sub(Base):
        def __init__(self, half: int = 1) -> None:
            super().__init__(2 * half)

    assert dict(reloaded(Sub(3), tmp_path).hparams) == {"width": 6, "half": 3}


def test_a_saved_hyperparameter_that_the_class_no_longer_has_is_reported(tmp_path: Path) -> None:
    class Old(Model):
        def __init__(self, dropout: float = 0.1, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.linear = nn.Linear(3, 1)

    class New(Model):
        def __init__(self, p_drop: float = 0.1, lr: float = 0.1) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 1)

    fitted(Old(0.5)).save_checkpoint(tmp_path / "model.ckpt")
    with pytest.warns(UserWarning, match=r"New has no parameter for the saved hyperparameters dropout=0\.5"):
        New.load_from_checkpoint(tmp_path / "model.ckpt")


def test_a_subclass_that_passes_everything_on_gets_one_argument_as_its_base_class_does(tmp_path: Path) -> None:
    class Base(Model):
        def __init__(self, hparams: Any) -> None:
            super().__init__()
            self.hparams = hparams
            self.linear = nn.Linear(3, hparams.width)

    class Passing(Base):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)

    assert dict(reloaded(Passing(argparse.Namespace(width=2)), tmp_path).hparams) == {"width": 2}


def test_a_configuration_beside_other_keywords_is_passed_as_one_argument(tmp_path: Path) -> None:
    class Configured(Model):
        def __init__(self, config: Any, *args: Any, **more: Any) -> None:
            super().__init__()
            self.save_hyperparameters(config)
            self.linear = nn.Linear(3, config["width"])

    assert dict(reloaded(Configured({"width": 2, "name": "a"}), tmp_path).hparams) == {"width": 2, "name": "a"}


@pytest.mark.parametrize("ignore", ["layers", ["layers"], ("layers", "absent")])
def test_ignored_arguments_are_left_out(ignore: Any) -> None:
    class Ignoring(TrainingModule):
        def __init__(self, lr: float, layers: Any) -> None:
            super().__init__()
            self.save_hyperparameters(ignore=ignore)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dict(Ignoring(0.1, nn.Linear(1, 1)).hparams) == {"lr": 0.1}


def test_arguments_can_be_chosen_by_name_and_later_calls_add_to_earlier_ones() -> None:
    class Choosing(TrainingModule):
        def __init__(self, lr: float, hidden: int, act: str = "relu") -> None:
            super().__init__()
            self.save_hyperparameters("lr", "act")
            self.save_hyperparameters({"classes": 10})
            self.save_hyperparameters(seed=3)

    assert dict(Choosing(0.1, 2).hparams) == {"lr": 0.1, "act": "relu", "classes": 10, "seed": 3}


@pytest.mark.parametrize("config", [Config(lr=0.5), argparse.Namespace(lr=0.5, layers=[1, 2]), {"lr": 0.5, "layers": [1, 2]}])
@pytest.mark.parametrize("as_argument", [True, False])
def test_a_dataclass_a_namespace_and_a_dict_are_restored(tmp_path: Path, config: Any, as_argument: bool) -> None:
    class Configured(Model):
        def __init__(self, config: Any) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 1)
            self.config = config
            self.save_hyperparameters() if as_argument else self.save_hyperparameters(config)

    class Annotated(Configured):
        def __init__(self, config: Config | None) -> None:
            super().__init__(config)

    model = Configured(config)
    assert dict(model.hparams) == ({"config": config} if as_argument else {"lr": 0.5, "layers": [1, 2]})
    again = reloaded(model, tmp_path).config
    assert again["lr"] == 0.5
    if not isinstance(config, dict) or not as_argument:
        assert again.lr == 0.5
    if as_argument:
        assert isinstance(again, dict)
    if as_argument and isinstance(config, Config):
        Annotated.__init__.__annotations__["config"] = Config | None
        assert reloaded(Annotated(config), tmp_path).config == config


def test_what_is_not_plain_data_is_kept_with_a_warning_and_passed_again(tmp_path: Path) -> None:
    class Wrapping(Model):
        def __init__(self, linear: nn.Module, color: Color = Color.RED, n: Any = THREE) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.linear = linear

    message = r"no file can contain linear \(Linear\).*load_from_checkpoint\(path, linear=\.\.\.\)"
    with pytest.warns(UserWarning, match=message):
        model = Wrapping(nn.Linear(3, 1))
    assert model.hparams.linear is model.linear
    with pytest.raises(ModelError, match=r"'linear'.*Pass what is missing"):
        reloaded(model, tmp_path)
    with pytest.warns(UserWarning, match=message):
        assert type(reloaded(model, tmp_path, linear=nn.Linear(3, 1)).hparams.n) is int


def test_arguments_of_the_call_win_over_saved_ones(tmp_path: Path) -> None:
    again = reloaded(Saving(0.5, hidden=8), tmp_path, hidden=32)
    assert (again.hparams.lr, again.hparams.hidden) == (0.5, 32)


@pytest.mark.parametrize("names", [(), ("lr",)])
def test_outside_of_init_there_is_nothing_to_keep(names: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match="call it there, or pass values"):
        TrainingModule().save_hyperparameters(*names)


def test_a_name_that_init_has_not_is_an_error_with_those_it_has() -> None:
    class Wrong(TrainingModule):
        def __init__(self, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters("learning_rate")

    with pytest.raises(ModelError, match=r"no argument 'learning_rate'. It has lr\."):
        Wrong()


def test_it_may_be_called_before_the_base_class_s_init_and_in_a_helper_and_copies_keep_it() -> None:
    class Early(TrainingModule):
        def __init__(self, lr: float = 0.1) -> None:
            self.keep()
            super().__init__()

        def keep(self) -> None:
            self.save_hyperparameters()

    # Not a local class for pickle.
    assert dict(copy.deepcopy(Early()).hparams) == {"lr": 0.1}
    assert dict(pickle.loads(pickle.dumps(Saving())).hparams) == {"lr": 0.1, "hidden": 64}


# ---- the record


class Logger:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def log_hyperparams(self, hparams: Mapping[str, Any]) -> None:
        self.calls.append(dict(hparams))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self.calls.append(step)


class NotLogging(Saving):
    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr)
        self.save_hyperparameters(logger=False)


def test_the_run_folder_the_report_and_loggers_get_the_hyperparameters(tmp_path: Path) -> None:
    logger = Logger()
    trainer = fitted(Saving(0.5), runs_dir=str(tmp_path), logger=logger)
    assert trainer.machine.run_dir is not None
    record = json.loads((trainer.machine.run_dir / "run.json").read_text())
    assert record["hparams"] == trainer.machine.hparams == {"lr": 0.5, "hidden": 64}
    assert logger.calls[0] == {"lr": 0.5, "hidden": 64}
    assert logger.calls.count(logger.calls[0]) == 1
    trainer.machine.report(tmp_path / "report.html")
    assert "lr=0.5" in (tmp_path / "report.html").read_text()


def test_loggers_get_none_if_the_model_says_so() -> None:
    logger = Logger()
    fitted(NotLogging(), logger=logger)
    assert logger.calls
    assert all(isinstance(call, int) for call in logger.calls)


def saved(model: nn.Module, folder: Path) -> Path:
    machine = build(
        Options(max_nb_epochs=1, quiet=True, progress_bar=False, runs_dir=None),
        model,
        train_dataloader=batches(4),
        callbacks=[ModelCheckpoint(dirpath=folder, every_n_epochs=1)],
    )
    machine.run()
    return folder


def resumed_with(model: nn.Module, folder: Path) -> list[str]:
    """Resume from the folder; return the warnings about hyperparameters."""
    machine = build(Options(max_nb_epochs=1, quiet=True, runs_dir=None), model, train_dataloader=batches(4))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        machine.resume(folder, strict=False)
    return [str(w.message) for w in caught if "hyperparameters" in str(w.message)]


@pytest.mark.parametrize(
    ("before", "now", "differences"),
    [
        ({"lr": 0.1}, {"lr": 0.2}, ["lr=0.2, checkpoint has 0.1"]),
        ({"lr": 0.1, "a": 1}, {"lr": 0.1, "b": (1, 2)}, ["a=none, checkpoint has 1", "b=(1, 2), checkpoint has none"]),
        ({"lr": {"x": (1, 2)}}, {"lr": {"x": [1, 2]}}, []),
        ({"lr": float("nan")}, {"lr": float("nan")}, []),
        ({"lr": {"x": 1, "y": 2}}, {"lr": {"y": 2, "x": 1}}, []),
        ({"lr": {"x": 1}}, {"lr": {"x": 2}}, ["lr={'x': 2}, checkpoint has {'x': 1}"]),
        ({"lr": None}, {"lr": 0}, ["lr=0, checkpoint has None"]),
    ],
)
def test_each_hyperparameter_that_differs_on_resume_is_reported_with_both_values(
    tmp_path: Path, before: dict[str, Any], now: dict[str, Any], differences: list[str]
) -> None:
    folder = saved(Saving(**before), tmp_path)
    found = resumed_with(Saving(**now), folder)
    assert len(found) == bool(differences)
    assert all(difference in found[0] for difference in differences)


def test_a_model_that_has_no_hyperparameters_yet_is_not_compared(tmp_path: Path) -> None:
    class Later(Model):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 1)

    assert resumed_with(Later(), saved(Saving(), tmp_path)) == []


def test_values_that_are_passed_must_be_plain_data() -> None:
    with pytest.raises(FsmtrainError, match=r"hparams: layer=.*cannot be saved"):
        TrainingModule().save_hyperparameters(layer=nn.Linear(1, 1))
