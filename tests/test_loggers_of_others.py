"""Loggers with Lightning's methods, MLflow and Weights & Biases: steps, resumed runs, tests, and how they end."""

from __future__ import annotations

import copy
import csv
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from fsmtrain import ModelCheckpoint, Options, Trainer, build
from fsmtrain.loggers import DummyLogger, MLflowLogger, TensorBoardLogger, WandbLogger
from tests.views.recording.recorded_runs import LoggingModel, NumberedBatches


class LightningLike:
    """What a logger of Lightning's has, and no more."""

    name, version = "like", 0

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    @property
    def experiment(self) -> list[tuple[Any, ...]]:
        return self.calls

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.calls.append(("metrics", {*metrics}, step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("hparams", params))

    def save(self) -> None:
        self.calls.append(("save",))

    def finalize(self, status: str) -> None:
        self.calls.append(("finalize", status))


class SelfLogging(LoggingModel):
    """Writes to its logger's own object, and fails if it is asked to."""

    def __init__(self, fails_at: int = -1, stops_at: int = -1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.fails_at, self.stops_at = fails_at, stops_at

    def on_epoch_start(self) -> None:
        if self.current_epoch == self.stops_at:
            self.trainer.stop()

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        if self.global_step == self.fails_at:
            raise RuntimeError("on purpose")
        return super().training_step(batch, batch_nb)

    def on_epoch_end(self) -> None:
        if isinstance(self.logger, LightningLike):
            self.logger.experiment.append(("own", len(self.loggers), self.trainer.logger is self.logger))


def fit(logger: Any, runs: Path | None, *, resume: Any = None, fails_at: int = -1, stops_at: int = -1) -> Any:
    """Fit with a checkpoint after the validation at the end of each epoch of 3 batches."""
    machine = build(
        Options(max_nb_epochs=2, quiet=True, runs_dir=runs, logger=logger, val_check_interval=1.0, device="cpu"),
        SelfLogging(fails_at, stops_at),
        train_dataloader=NumberedBatches(3),
        val_dataloaders=NumberedBatches(1),
        callbacks=[ModelCheckpoint(monitor="val_loss")],
    )
    if resume is not None:
        machine.resume_from(resume)
    machine.run()
    return machine


def test_a_logger_of_lightning_s_is_called_as_there(tmp_path: Path) -> None:
    logger = LightningLike()
    fit(logger, tmp_path)
    kinds = [call[0] for call in logger.calls]
    assert kinds[0] == "hparams"
    assert "save" in kinds
    assert ("own", 1, True) in logger.calls
    assert logger.calls[-1] == ("finalize", "success")
    assert [call[2] for call in logger.calls if call[0] == "metrics" and "loss" in call[1]] == [0, 1, 2, 3, 4, 5]


def test_a_run_that_fails_is_finalized_as_failed(tmp_path: Path) -> None:
    logger = LightningLike()
    with pytest.raises(RuntimeError, match="on purpose"):
        fit(logger, tmp_path, fails_at=2)
    assert logger.calls[-1] == ("finalize", "failed")


@pytest.mark.slow
def test_real_loggers_of_lightning_have_metrics_at_their_steps_hyperparameters_and_the_test(tmp_path: Path) -> None:
    theirs = pytest.importorskip("lightning.pytorch.loggers", reason="lightning is not installed")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def loggers(version: int) -> list[Any]:
        return [each(tmp_path, name=each.__name__, version=version) for each in (theirs.CSVLogger, theirs.TensorBoardLogger)]

    def steps(version: int) -> list[dict[str, list[int]]]:
        csv_logger, tensorboard_logger = loggers(version)
        with open(f"{csv_logger.log_dir}/metrics.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        events = accumulator.EventAccumulator(tensorboard_logger.log_dir)
        events.Reload()
        names = ("loss", "val_loss", "test_loss")
        return [
            {name: [int(row["step"]) for row in rows if row.get(name)] for name in names},
            {name: [e.step for e in events.Scalars(name)] if name in events.Tags()["scalars"] else [] for name in names},
        ]

    both = loggers(0)
    trainer = Trainer(
        max_nb_epochs=2, quiet=True, runs_dir=tmp_path / "runs", val_check_interval=1.0, device="cpu", logger=both
    )
    trainer.fit(SelfLogging(), NumberedBatches(3), NumberedBatches(1))
    trainer.test(test_dataloaders=NumberedBatches(2))
    whole = {"loss": [0, 1, 2, 3, 4, 5], "val_loss": [3, 6], "test_loss": [6]}
    assert steps(0) == [whole, whole]
    assert trainer.loggers == tuple(both)
    for logger in both:
        assert Path(logger.log_dir, "hparams.yaml").read_text(encoding="utf-8").splitlines() == ["fails_at: -1", "stops_at: -1"]

    fit(loggers(1), tmp_path / "stopped", stops_at=1)
    fit(loggers(2), tmp_path / "stopped", resume=tmp_path / "stopped" / "0")
    assert steps(1) == 2 * [{"loss": [0, 1, 2, 3], "val_loss": [3], "test_loss": []}], "stopped within a batch"
    assert steps(2) == 2 * [{"loss": [3, 4, 5], "val_loss": [6], "test_loss": []}]


def test_self_logger_is_the_first_of_several_and_none_without_any() -> None:
    first, second, seen = LightningLike(), LightningLike(), list[Any]()

    class Asking(LoggingModel):
        def on_train_start(self) -> None:
            seen.append((self.logger, self.loggers))

    assert (Asking().logger, Asking().loggers) == (None, [])
    for loggers in ([first, second], None):
        trainer = Trainer(max_nb_epochs=1, quiet=True, runs_dir=None, logger=loggers, device="cpu")
        trainer.fit(Asking(), NumberedBatches(1), NumberedBatches(1))
    assert seen == [(first, [first, second]), (None, [])]


def test_a_logger_that_the_model_sets_itself_stays_its_own() -> None:
    own = logging.getLogger("own")

    class Own(LoggingModel):
        def __init__(self) -> None:
            super().__init__()
            self.logger = own

    class OfClass(LoggingModel):
        logger, loggers = own, [own]

    for model in (Own(), OfClass()):
        trainer = Trainer(max_nb_epochs=1, quiet=True, runs_dir=None, logger=LightningLike(), device="cpu")
        trainer.fit(model, NumberedBatches(1), NumberedBatches(1))
        assert model.logger is copy.deepcopy(model).logger is own
        assert model.loggers == ([own] if isinstance(model, OfClass) else trainer.machine.loggers)


def test_under_fast_dev_run_a_model_calls_its_logger_and_nothing_is_logged() -> None:
    logger, seen = LightningLike(), list[Any]()

    class Calling(LoggingModel):
        def on_epoch_end(self) -> None:
            self.logger.log_metrics({"own": 1.0}, step=self.global_step)
            self.logger.experiment.add_image("sample", torch.zeros(3, 2, 2), self.global_step)
            self.logger.experiment["sample"].append(1.0)
            seen.extend(self.loggers)

    for loggers in (logger, [logger, logger], None):
        trainer = Trainer(fast_dev_run=True, quiet=True, logger=loggers, device="cpu")
        trainer.fit(Calling() if loggers else LoggingModel(), NumberedBatches(1), NumberedBatches(1))
        assert trainer.loggers == ((DummyLogger(),) if loggers else ())
        assert trainer.machine._recorder is None
    assert (logger.calls, seen) == ([], [DummyLogger(), DummyLogger()])
    assert copy.deepcopy(trainer).loggers == pickle.loads(pickle.dumps(trainer)).loggers == ()


class Beginning(LightningLike):
    def begin_run(self, run_id: str | None, name: str | None, resumed_step: int | None) -> None:
        self.calls.append(("begin", run_id, name, resumed_step))


def test_a_resumed_run_has_the_identity_of_the_first_and_logs_again_what_may_be_dropped(tmp_path: Path) -> None:
    first, resumed = Beginning(), Beginning()
    fit(first, tmp_path, stops_at=1)
    fit(resumed, tmp_path, resume=tmp_path / "0")
    (_, run_id, name, step), *rest = resumed.calls
    assert first.calls[0] == ("begin", run_id, "0", None)
    assert run_id is not None
    assert (name, step) == ("0", 3)
    assert rest[0] == ("metrics", {"val_loss"}, 3), "of the validation before the checkpoint"
    metrics = [call for call in rest if call[0] == "metrics"]
    assert [call[2] for call in metrics if "loss" in call[1]] == [3, 4, 5]
    assert [call[2] for call in metrics if "val_loss" in call[1]] == [3, 6]


@pytest.mark.parametrize("stops", [False, True])
def test_tensorboard_has_each_point_of_a_resumed_run_once(tmp_path: Path, stops: bool) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if stops:
        fit(TensorBoardLogger(tmp_path / "tb"), tmp_path / "runs", stops_at=1)
    else:
        with pytest.raises(RuntimeError, match="on purpose"):
            fit(TensorBoardLogger(tmp_path / "tb"), tmp_path / "runs", fails_at=5)
    fit(TensorBoardLogger(tmp_path / "tb"), tmp_path / "runs", resume=tmp_path / "runs" / "0")
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [0, 1, 2, 3, 4, 5]
    assert [event.step for event in events.Scalars("val_loss")] == [3, 6]


def test_tensorboard_takes_text_images_figures_and_histograms_from_the_experiment(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Drawing(LoggingModel):
        def on_epoch_end(self) -> None:
            writer = self.logger.experiment
            writer.add_text("sample", "words", self.global_step)
            writer.add_histogram("weights", torch.ones(3), self.global_step)

    logger = TensorBoardLogger(tmp_path / "tb")
    trainer = Trainer(max_nb_epochs=1, quiet=True, runs_dir=None, logger=logger, device="cpu")
    trainer.fit(Drawing(), NumberedBatches(2), NumberedBatches(1))
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    tags = events.Tags()
    assert "weights" in tags["histograms"]
    assert "sample/text_summary" in tags["tensors"]
    assert [event.step for event in events.Scalars("loss")] == [0, 1]


@pytest.fixture
def mlflow_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A local store of MLflow's, in files: the other ones need packages of their own."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return f"file:{tmp_path / 'mlruns'}"


def test_mlflow_has_one_run_with_each_point_once_for_a_failed_run_and_its_continuation(
    tmp_path: Path, mlflow_store: str
) -> None:
    with pytest.raises(RuntimeError, match="on purpose"):
        fit(MLflowLogger("digits", mlflow_store), tmp_path / "runs", fails_at=5)
    logger = MLflowLogger("digits", mlflow_store)
    fit(logger, tmp_path / "runs", resume=tmp_path / "runs" / "0")
    client = logger.experiment
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert (run.info.status, run.info.run_name, run.data.params["fails_at"]) == ("FINISHED", "0", "5")
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] == [0, 1, 2, 3, 4, 5]
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "val_loss")] == [3, 6]


def test_a_test_after_fit_belongs_to_the_same_mlflow_run(tmp_path: Path, mlflow_store: str) -> None:
    logger = MLflowLogger("digits", mlflow_store)
    for _ in range(2):
        trainer = Trainer(max_nb_epochs=1, quiet=True, runs_dir=tmp_path / "runs", logger=logger, device="cpu")
        trainer.fit(LoggingModel(), NumberedBatches(2), NumberedBatches(1))
        trainer.test(test_dataloaders=NumberedBatches(2))
    client = logger.experiment
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert len(runs) == 2
    assert all({"loss", "val_loss", "test_loss"} <= {*run.data.metrics} for run in runs)


def test_wandb_gets_metrics_over_global_step_and_the_hyperparameters(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    logger = WandbLogger("digits", mode="offline", dir=str(tmp_path))
    machine = fit(logger, tmp_path / "runs")
    assert machine.run_dir is not None
    assert logger.name == "0"
    assert [*tmp_path.glob(f"wandb/offline-run-*-{logger.version}")], "the run there has the identity of the recorded run"
