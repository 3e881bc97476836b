"""A run that is resumed with other val, test or train loaders: it begins the pass again, or is refused by our error."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from fsmtrain import Callback, EarlyStopping, Machine, ModelCheckpoint, Options, State, TrainingModule, build
from fsmtrain.errors import FsmtrainError, ResumeError


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Counting(TrainingModule):
    """Counts the validation batches that it is given, and asks for a stop at one of them, or at a train batch."""

    def __init__(self, at: tuple[str, int] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout(0.0))
        self.at, self.seen = at, {"train": 0, "val": 0, "test": 0}

    def _see(self, what: str) -> None:
        self.seen[what] += 1
        if self.at == (what, self.seen[what]):
            self.trainer.stop()

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        assert self.training
        self._see("train")
        return self.layer(batch).mean()

    def validation_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> Any:
        assert not self.layer[1].training
        self._see("val")
        return {"val_loss": self.layer(batch).mean()}

    def test_step(self, batch: Any, batch_nb: int, dataloader_i: int = 0) -> Any:
        self._see("test")
        return {"test_loss": self.layer(batch).mean()}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class Batches:
    """An iterable of batches that is none of torch's."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Any:
        return (torch.full((1, 1), float(i)) for i in range(self.n))


def loader(n: int, kind: str = "own") -> Any:
    return Batches(n) if kind == "own" else DataLoader(torch.arange(float(n))[:, None], batch_size=1, shuffle=True)  # type: ignore[arg-type]


def machine(model: Counting, val: list[Any], *, train: int = 6, test: list[Any] | None = None, **flags: Any) -> Machine:
    options = {"runs_dir": None, "quiet": True, "max_nb_epochs": 3, "nb_sanity_val_steps": 2, **flags}
    return build(
        Options(**options),
        model,
        train_dataloader=loader(train),
        val_dataloaders=val,
        test_dataloaders=test or [],
        callbacks=[ModelCheckpoint(dirpath="saved", every_n_batches=1000)],
    )


STOPS = [("train", 3), ("train", 6), ("val", 1), ("val", 4), ("val", 7), ("val", 9)]
VAL: dict[str, list[Any]] = {
    "two of 4": [4, 4], "one of 4": [4], "three": [4, 4, 4], "shorter": [4, 2], "longer": [4, 9], "one of 1": [1], "none": [],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("stop", "before", "after", "kinds"), [
    (stop, before, after, kinds)
    for stop, before, after, kinds in itertools.product(
        STOPS, ["two of 4", "one of 4"], VAL, [("own", "own"), ("torch", "torch"), ("torch", "own")]
    )
    if not (before == "one of 4" and stop[1] > 6)
])  # fmt: skip
def test_a_run_resumed_with_other_val_loaders_ends_in_the_same_weights(
    stop: tuple[str, int], before: str, after: str, kinds: tuple[str, str]
) -> None:
    """Validations change no weights, so whichever loaders they have, training goes on as it would have."""
    stopped = machine(Counting(stop), [loader(n, kinds[0]) for n in VAL[before]])
    stopped.run()
    assert stopped.state is State.STOPPED
    model = Counting()
    resumed = machine(model, [loader(n, kinds[1]) for n in VAL[after]])
    resumed.resume("saved")
    assert resumed.run().state is State.DONE
    whole = Counting()
    machine(whole, [loader(n, kinds[0]) for n in VAL[before]]).run()
    assert all(map(torch.equal, model.parameters(), whole.parameters()))
    trained = model.seen["train"] + (stopped.counters.batches_begun)
    assert trained == 18
    assert model.training
    rest = 3 - stopped.counters.validations_done
    in_sanity_pass = stopped.last_state in (State.START, State.SANITY_VAL)
    if not in_sanity_pass and (before, kinds[0]) != (after, kinds[1]):
        assert model.seen["val"] == sum(VAL[after]) * rest


@pytest.mark.parametrize("stop", [("val", 1), ("val", 5), ("val", 8)])
def test_a_pass_that_begins_again_is_reported(stop: tuple[str, int]) -> None:
    machine(Counting(stop), [loader(4), loader(4)]).run()
    resumed = machine(Counting(), [loader(4)])
    with pytest.warns(UserWarning, match="begins again at its first batch"):
        resumed.resume("saved")


def test_a_test_with_other_loaders_begins_again_and_one_without_loaders_is_refused() -> None:
    machine(Counting(("test", 3)), [], test=[loader(5)]).run()
    model = Counting()
    resumed = machine(model, [], test=[loader(2), loader(3)])
    with pytest.warns(UserWarning, match="was saved within a test"):
        resumed.resume("saved")
    assert resumed.run().state is State.DONE
    assert (model.seen["test"], model.seen["train"]) == (5, 0)
    with pytest.raises(FsmtrainError, match="test"):
        machine(Counting(), []).resume("saved")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_another_train_loader_is_refused_within_an_epoch_and_may_begin_between_two() -> None:
    machine(Counting(("train", 3)), [loader(2)]).run()
    for strict in (True, False):
        other = machine(Counting(), [loader(2)], train=2)
        with pytest.raises(ResumeError, match="train"):
            other.resume("saved", strict=strict)


def test_another_train_loader_between_two_epochs_begins_at_its_beginning_if_not_strict() -> None:
    class StopAfterEpoch(Callback):
        def on_epoch_end(self, machine: Any) -> None:
            machine.stop()

    model = Counting()
    stopped = build(
        Options(runs_dir=None, quiet=True, max_nb_epochs=3), model, train_dataloader=loader(6),
        callbacks=[ModelCheckpoint(dirpath="saved", every_n_batches=1000), StopAfterEpoch()],
    )  # fmt: skip
    stopped.run()
    assert (stopped.last_state, stopped.counters.epochs_done) == (State.EARLY_STOP, 1)
    with pytest.raises(ResumeError, match="train batches: 2, checkpoint has 6"):
        machine(Counting(), [], train=2).resume("saved")
    model = Counting()
    resumed = machine(model, [], train=2)
    with pytest.warns(UserWarning, match=r"train loader: its saved position does not fit \(batches=2, checkpoint has 6\)"):
        resumed.resume("saved", strict=False)
    resumed.run()
    assert model.seen["train"] == 4


def test_a_higher_patience_takes_effect_at_once() -> None:
    """Patience was exhausted before min_nb_epochs; the run is resumed with more of it."""
    rule = EarlyStopping(patience=1, min_delta=100.0)
    machine(Counting(("train", 14)), [loader(1)], min_nb_epochs=3, early_stop_callback=rule).run()
    model = Counting()
    resumed = machine(model, [loader(1)], early_stop_callback=EarlyStopping(patience=50, min_delta=100.0))
    resumed.resume("saved")
    assert not resumed.signals.patience_exhausted
    assert resumed.run().counters.epochs_done == 3


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4), (4, 3), (4, 1), (3, 6)])
@pytest.mark.parametrize("stop", range(1, 8))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_open_window_that_is_resumed_with_another_k_steps_the_mean_of_its_backwards(
    before: int, after: int, stop: int
) -> None:
    stopped_model = Counting(("train", stop))
    stopped = machine(stopped_model, [], train=7, max_nb_epochs=1, accumulate_grad_batches=before)
    stopped.run()
    model = Counting()
    resumed = machine(model, [], train=7, max_nb_epochs=1, accumulate_grad_batches=after)
    resumed.resume("saved", strict=False)
    resumed.run()
    by_hand = torch.nn.Linear(1, 1)
    by_hand.load_state_dict(Counting().layer[0].state_dict())
    window: list[int] = []
    for batch in range(7):
        k = before if batch < stop else after
        window.append(batch)
        if len(window) >= k or batch == 6:
            gradient = sum(window) / len(window)
            with torch.no_grad():
                by_hand.weight.sub_(0.1 * gradient)
                by_hand.bias.sub_(0.1)
            window = []
    torch.testing.assert_close(model.layer[0].weight, by_hand.weight)
    torch.testing.assert_close(model.layer[0].bias, by_hand.bias)
