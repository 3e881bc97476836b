"""Data modules: when their methods are called, with what, and which loaders a run takes from where."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import frozen

from fsmtrain import DataModule, FsmtrainError, ModelCheckpoint, Options, State, Trainer, build
from fsmtrain.errors import FsmtrainWarning, UsageError
from fsmtrain.runtime.data.data_modules import given_loaders
from tests.models import Linear, Validated, batches, same_bits
from tests.resuming.resume_scenarios import SCENARIOS

QUIET: dict[str, Any] = {"max_nb_epochs": 1, "runs_dir": None, "quiet": True, "nb_sanity_val_steps": 0}


class Recorded:
    """A data module that is of no class of ours."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.trainer: Any = None

    def prepare_data(self) -> None:
        self.calls.append("prepare_data")

    def setup(self, stage: str) -> None:
        assert self.trainer.datamodule is self
        self.calls.append(("setup", stage))

    def train_dataloader(self) -> Any:
        self.calls.append("train")
        return batches(4)

    def val_dataloader(self) -> Any:
        self.calls.append("val")
        return batches(2)

    def test_dataloader(self) -> Any:
        self.calls.append("test")
        return batches(2)

    def teardown(self, stage: str) -> None:
        self.calls.append(("teardown", stage))


class Ours(Recorded, DataModule):
    """The same, of our class."""


def lightning(cls: type) -> type:
    """A class that inherits from one which looks like Lightning's, whose methods raise unless they are overridden."""

    def refuse(self: object, *args: object) -> None:
        raise NotImplementedError("must be overridden")

    names = ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader", "transfer_batch_to_device")
    base = type("LightningDataModule", (), {**dict.fromkeys((*names, "state_dict"), refuse), "__module__": "lightning.pytorch"})
    return type(cls.__name__, (cls, base), {})


FIT = ["prepare_data", ("setup", "fit"), "train", "val", ("teardown", "fit")]
TEST = ["prepare_data", ("setup", "test"), "test", ("teardown", "test")]
VALIDATE = ["prepare_data", ("setup", "validate"), "val", ("teardown", "validate")]


@pytest.mark.parametrize("kind", [Recorded, Ours, lightning(Recorded)])
def test_each_run_prepares_sets_up_asks_for_its_loaders_and_tears_down(kind: Callable[[], Any]) -> None:
    data, model, trainer = kind(), Validated(), Trainer(**QUIET)
    for run, expected in (
        (lambda: trainer.fit(model, datamodule=data), FIT),
        (lambda: trainer.test(), TEST),  # the data module of the fit
        (lambda: trainer.test(model, datamodule=data), TEST),
        (lambda: trainer.validate(model, data), VALIDATE),  # in the place of the loaders
        (lambda: build(Options(**QUIET), model, datamodule=data).run(), [*FIT[:-1], TEST[1], "test", TEST[-1], FIT[-1]]),
    ):
        run()
        assert data.calls == expected
        data.calls.clear()
        assert data.trainer is None or kind is Ours  # which declares it


def test_a_run_with_a_data_module_has_the_bits_of_one_with_its_loaders() -> None:
    models = [Validated(), Validated()]
    models[1].load_state_dict(models[0].state_dict())
    Trainer(**QUIET).fit(models[0], batches(4), batches(2))
    Trainer(**QUIET).fit(models[1], datamodule=Recorded())
    assert same_bits(models[0].state_dict(), models[1].state_dict())


def test_a_loader_without_a_method_is_asked_of_the_model() -> None:
    class OnlyVal(DataModule):
        def val_dataloader(self) -> Any:
            return batches(2)

    class WithTrain(Validated):
        def train_dataloader(self) -> Any:
            return batches(6)

        def val_dataloader(self) -> Any:
            raise AssertionError("the data module's is used")

    machine = build(Options(**QUIET), WithTrain(), datamodule=OnlyVal())
    assert (machine.spec.sizes.train, machine.spec.sizes.val) == (3, (1,))
    assert build(Options(**QUIET), WithTrain(), datamodule=OnlyVal(), val_dataloaders=[]).spec.sizes.val == ()


class Keyword(Recorded):
    """Methods as some write them."""

    def setup(self, *, stage: str | None = None) -> None:  # type: ignore[override]
        super().setup(stage or "")

    def teardown(self) -> None:  # type: ignore[override]
        super().teardown("fit")


def test_setup_may_take_its_stage_by_name_or_not_at_all() -> None:
    data = Keyword()
    Trainer(**QUIET).fit(Validated(), datamodule=data)
    assert data.calls == FIT


def test_what_began_is_torn_down_after_an_error_which_the_data_module_gets() -> None:
    class Failing(Recorded):
        def val_dataloader(self) -> Any:
            raise RuntimeError("no val loader")

    data = Failing()
    with pytest.raises(RuntimeError, match="no val loader"):
        Trainer(**QUIET).fit(Validated(), datamodule=data)
    assert data.calls[-1] == ("teardown", "fit")

    class Told(Recorded):
        def on_exception(self, exception: BaseException) -> None:
            self.calls.append(str(exception))

    class Wrong(Validated):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            raise RuntimeError("in a step")

    told = Told()
    with pytest.raises(RuntimeError, match="in a step"):
        Trainer(**QUIET).fit(Wrong(), datamodule=told)
    assert told.calls[-2:] == ["in a step", ("teardown", "fit")]


def test_the_data_module_moves_batches_before_the_model_does() -> None:
    class Moving(Recorded):
        def transfer_batch_to_device(self, batch: Any, device: torch.device) -> Any:
            self.calls.append(device.type)
            return batch

    data = Moving()
    build(Options(**QUIET, device="cpu"), Validated(), datamodule=data, test_dataloaders=[]).run()
    assert data.calls.count("cpu") == 4  # two train batches, and two validations of one


class Counting(DataModule):
    """Its state is how often it was asked for a batch's transfer."""

    def __init__(self) -> None:
        self.batches, self.loaded = 0, -1

    def train_dataloader(self) -> Any:
        return batches(8)

    def transfer_batch_to_device(self, batch: Any, device: torch.device) -> Any:
        self.batches += 1
        return batch

    def state_dict(self) -> dict[str, int]:
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.loaded = self.batches = state["batches"]


def test_its_state_is_part_of_checkpoints(tmp_path: Path) -> None:
    options = Options(**{**QUIET, "max_nb_epochs": 2})
    save = ModelCheckpoint(dirpath=tmp_path / "kept")
    first = build(options, Linear(), datamodule=Counting(), callbacks=[save])
    for _ in first:
        if first.counters.epochs_done == 1:
            first.stop()
    resumed = build(options, Linear(), datamodule=Counting(), callbacks=[save])
    resumed.resume(tmp_path / "kept")
    assert resumed.datamodule.loaded == first.datamodule.batches == 4
    resumed.run()
    assert resumed.datamodule.batches == 8
    without = build(options, Linear(), train_dataloader=batches(8), callbacks=[save])
    with pytest.warns(FsmtrainWarning, match=r"has the state of a data module, .*that state is dropped\. Pass the same"):
        without.resume(tmp_path / "kept")
    late = build(options, Linear(), datamodule=Recorded(), callbacks=[save], val_dataloaders=[], test_dataloaders=[])
    with pytest.raises(FsmtrainError):  # another length: the sizes are compared as ever
        late.resume(tmp_path / "kept")


@frozen
class Frozen:
    """It cannot be given a trainer, and needs none."""

    def train_dataloader(self) -> Any:
        return batches(2)


def test_a_frozen_data_module_works() -> None:
    build(Options(**QUIET), Linear(), datamodule=Frozen()).run()


@pytest.mark.parametrize(
    ("passed", "says"),
    [
        ({"train": [1], "datamodule": Recorded()}, "fit: train_dataloader and datamodule were both passed"),
        ({"val": [1], "train": [2], "datamodule": Recorded()}, "train_dataloader and val_dataloaders and datamodule"),
        ({"datamodule": Recorded}, "datamodule=Recorded is a class. Pass an object: Recorded()."),
        ({"datamodule": [1]}, "a data module has at least one of the methods train_dataloader"),
        ({"datamodule": DataModule()}, "a data module has at least one of the methods"),
    ],
)
def test_what_is_no_data_module_or_is_given_twice_is_an_error(passed: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        given_loaders("fit", **passed)
    assert says in str(caught.value)


def test_empty_lists_still_mean_none() -> None:
    loaders = given_loaders("build", train=None, val=[], test=(), datamodule=Recorded())
    assert (loaders.of(Linear(), "val"), loaders.may_have(Linear(), "test")) == ([], False)


class Sized(Counting):
    """It keeps its hyperparameters, one of which is no plain data."""

    def __init__(self, size: int = 2, lr: float = 0.0, loader: object = object) -> None:
        super().__init__()
        self.save_hyperparameters()


def test_hyperparameters_of_the_data_module_are_recorded_beside_those_of_the_model() -> None:
    model = Linear()
    model.hparams = {"lr": 0.1}
    data = Sized(size=3)
    assert build(Options(**QUIET), model, datamodule=data).hparams == {"lr": 0.1, "size": 3}
    trainer = Trainer(**QUIET)
    trainer.fit(model, datamodule=data)
    for other in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert (other.trainer, other.hparams.size) == (None, 3)


def test_within_a_validation_that_begins_again_its_state_is_that_of_before(tmp_path: Path) -> None:
    make, saves = SCENARIOS["a data module with a memory"], ModelCheckpoint(dirpath=tmp_path / "kept")
    whole, stopped, resumed = make(guards=None), *(make(callbacks=[saves], guards=None) for _ in range(2))
    whole.run()
    for _ in stopped:
        if stopped.state is State.VAL_CHECK and stopped.counters.eval_nb == 1:
            stopped.stop()
    resumed.resume(tmp_path / "kept")
    resumed.run()
    assert same_bits(whole.model.state_dict(), resumed.model.state_dict())
    assert same_bits(whole.datamodule.scale, resumed.datamodule.scale)


def test_a_method_that_nothing_calls_is_reported_once() -> None:
    class Augmenting(Recorded):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any: ...
        def predict_dataloaders(self) -> Any: ...
        def helper(self) -> None: ...

        def setup(self) -> None:  # type: ignore[override]
            """A hook without a stage."""

    data, model = Augmenting(), Validated()
    with pytest.warns(UserWarning, match="Augmenting: nothing calls its methods") as told:
        _ = [build(Options(**QUIET), model, datamodule=data) for _ in range(2)]
    (text,) = [str(one.message) for one in told]
    assert "on_after_batch_transfer (convert the batch in training_step" in text
    assert "predict_dataloaders (its name here is predict_dataloader)" in text
    assert "helper" not in text
    assert "setup" not in text
