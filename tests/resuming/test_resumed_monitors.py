"""A run that is resumed with another monitored metric, or in the other mode: what was best by the old one counts no more."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from fsmtrain import EarlyStopping, Machine, ModelCheckpoint, Options, TrainingModule, build

BATCHES = [torch.ones(1, 1)] * 2
VALUES = {"falls": [5.0, 4.0, 3.0, 2.0, 1.0, 0.5], "rises": [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]}  # by epoch


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Model(TrainingModule):
    """Returns two metrics, by the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return self.layer(batch).mean()

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        return {name: torch.tensor(values[self.current_epoch]) for name, values in VALUES.items()}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def machine(epochs: int, stopping: EarlyStopping | None = None, **saving: Any) -> Machine:
    options = Options(
        max_nb_epochs=epochs,
        early_stop_callback=stopping,
        nb_sanity_val_steps=0,
        quiet=True,
        runs_dir=None,
        val_check_interval=1.0,
    )
    saved = ModelCheckpoint(dirpath="saved", **{"every_n_epochs": 1, **saving})
    return build(options, Model(), train_dataloader=BATCHES, val_dataloaders=BATCHES, callbacks=[saved])


def resumed(epochs: int, stopping: EarlyStopping | None = None, **saving: Any) -> tuple[Machine, str]:
    """Return a machine that has been resumed, with all that was warned."""
    one = machine(epochs, stopping, **saving)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        one.resume("saved")
    return one, "\n".join(str(warning.message) for warning in caught)


RULES = [EarlyStopping(monitor, mode=mode, patience=2) for monitor in VALUES for mode in ("min", "max")]


@pytest.mark.parametrize(("before", "now"), itertools.permutations(RULES, 2))
def test_early_stopping_with_another_monitor_or_mode_begins_anew_and_warns_with_both(
    before: EarlyStopping, now: EarlyStopping
) -> None:
    machine(2, before).run()
    one, warned = resumed(6, now)
    assert (
        f"monitors {now.monitor!r} in mode {now.mode!r}, and in the checkpoint {before.monitor!r} in mode {before.mode!r}"
        in warned
    )
    done = one.run().counters.epochs_done
    improves = (now.monitor == "falls") == (now.mode == "min")
    assert done == (6 if improves else 4)  # epoch 1's value is the first and best, then two without an improvement


def test_early_stopping_with_another_patience_goes_on() -> None:
    machine(3, EarlyStopping("rises", patience=9)).run()
    one, warned = resumed(6, EarlyStopping("rises", patience=3))
    assert "begins anew" not in warned
    assert one.run().counters.epochs_done == 4


def test_checkpoints_ranked_by_another_metric_have_no_rank() -> None:
    machine(3, monitor="falls", save_top_k=3).run()
    one, warned = resumed(5, monitor="rises", save_top_k=3)
    assert "ModelCheckpoint(monitor='rises'): the checkpoints so far were ranked by 'falls'" in warned
    one.run()
    assert one.best_checkpoint is not None
    assert one.best_checkpoint.path.name == "000002"  # 30.0: that of epoch 2, validated after the resume; not 5.0 or 4.0


def test_checkpoints_keep_their_rank_by_the_same_metric() -> None:
    machine(3, monitor="rises", save_top_k=3).run()
    one, warned = resumed(5, monitor="rises", save_top_k=3)
    assert "ranked" not in warned
    one.run()
    assert one.best_checkpoint is not None
    assert one.best_checkpoint.path.name == "000000"
