"""`ModelCheckpoint` in runs: when it saves, what it keeps, and that a validation ranks the weights that it evaluated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from fsmtrain import FsmtrainError, Guards, ModelCheckpoint, State, every_n_batches
from fsmtrain.runtime import actions
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from tests.models import TransitionRecorder, Validated, batches, machine_of, same_bits, weights
from tests.resuming.test_resuming import StopAt


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Marked(Validated):
    """Validation returns what it is told to, check by check, and keeps the weights of each."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values, self.checked = list(values), list[Any]()

    def validation_end(self, outputs: Any) -> Any:
        self.checked.append(weights(self))
        return {"val_loss": torch.tensor(self.values[len(self.checked) - 1])}


def of(rule: ModelCheckpoint, *values: float, callbacks: Any = (), **flags: Any) -> Any:
    torch.manual_seed(0)
    given = {"max_nb_epochs": len(values), "nb_sanity_val_steps": 0, "val_check_interval": 1.0, **flags}
    return machine_of(Marked(*values), batches(8), batches(2), callbacks=[rule, *callbacks], **given)


def epochs_kept() -> list[int]:
    return [about["current_epoch"] for about in Store("checkpoints").metadata().values()]


def test_the_best_and_the_newest_are_kept() -> None:
    machine = of(ModelCheckpoint(monitor="val_loss", save_top_k=2), 3.0, 1.0, 5.0, 2.0, math.nan, 4.0)
    machine.run()
    assert epochs_kept() == [1, 3, 5]


def test_the_best_has_the_weights_that_were_checked() -> None:
    machine = of(ModelCheckpoint(monitor="val_loss", mode="max"), 3.0, 7.0, 5.0)
    machine.run()
    assert epochs_kept() == [1, 2]
    best = Store("checkpoints").load(machine.best_checkpoint)
    assert same_bits(list(best.tree["model"].values()), machine.model.checked[1])


def test_ranks_survive_a_stop() -> None:
    values = (3.0, 1.0, 5.0, 2.0, 6.0, 4.0)
    rule = ModelCheckpoint(monitor="val_loss", save_top_k=2)
    of(rule, *values, callbacks=[StopAt(70)]).run()
    machine = of(rule, *values)
    machine.resume()
    machine.model.checked += [None] * machine.counters.validations_done
    assert machine.counters.validations_done == 2
    machine.run()
    assert epochs_kept() == [1, 3, 5]


def test_without_any_interval_each_epoch_is_saved_and_the_newest_are_kept() -> None:
    visits = TransitionRecorder()
    of(ModelCheckpoint(save_top_k=2), 1.0, 1.0, 1.0, callbacks=[visits]).run()
    assert visits.batches_of(State.SAVE) == [3, 3, 3]
    assert epochs_kept() == [1, 2]


def test_save_top_k_minus_1_keeps_all_checkpoints() -> None:
    of(ModelCheckpoint(monitor="val_loss", save_top_k=-1, dirpath="elsewhere"), 1.0, 2.0, 1.0).run()
    assert len(Store("elsewhere").numbers()) == 3


def test_time_is_looked_at_when_a_batch_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 5.0, 6.0, 14.0, 14.5, 15.0, 30.0, 31.0])
    monkeypatch.setattr(actions, "monotonic", lambda: next(times))
    visits = TransitionRecorder()
    of(ModelCheckpoint(every_n_seconds=5), 1.0, 1.0, callbacks=[visits]).run()
    assert visits.batches_of(State.SAVE) == [1, 3, 2, 3]  # the last one where the run ends


@pytest.mark.parametrize(
    "wrong", [{"monitor": ""}, {"mode": "least"}, {"save_top_k": 0}, {"every_n_steps": 0}, {"every_n_seconds": -1}]
)
def test_what_has_no_meaning_is_refused(wrong: Any) -> None:
    [name] = wrong
    with pytest.raises(FsmtrainError, match=f"ModelCheckpoint\\({name}="):
        ModelCheckpoint(**wrong)


def test_only_one_of_model_checkpoint_and_save_guard_is_allowed() -> None:
    with pytest.raises(FsmtrainError, match="both decide when to save"):
        of(ModelCheckpoint(), 1.0, guards=Guards(save=every_n_batches(2)))


def test_a_metric_that_no_validation_returns_is_an_error() -> None:
    with pytest.raises(FsmtrainError, match="ModelCheckpoint monitors 'accuracy', which the validation did not return"):
        of(ModelCheckpoint(monitor="accuracy"), 1.0).run()
