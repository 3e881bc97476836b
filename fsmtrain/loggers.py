"""`TensorBoardLogger`, `WandbLogger` and `MLflowLogger`. Any object with ``log_metrics(metrics, step)`` is a logger, too.

What else a logger may have: ``begin_run(run_id, name, resumed_step)``, called first; ``log_hyperparams(hparams)``; ``flush()``,
or Lightning's ``save()``, before each checkpoint; ``close()``, or Lightning's ``finalize(status)``, at the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from fsmtrain.dummy_logger import DummyLogger
from fsmtrain.errors import MissingExtraError, UsageError

__all__ = ["DummyLogger", "MLflowLogger", "TensorBoardLogger", "WandbLogger"]


class TensorBoardLogger:
    """Write metrics for TensorBoard: ``Trainer(logger=TensorBoardLogger("tensorboard/first"))``.

    Needs the package ``tensorboard``: ``pip install 'fsmtrain[tensorboard]'``. What is no number is written by `experiment`:
    ``self.logger.experiment.add_image("samples", image, self.global_step)``, ``add_figure``, ``add_histogram``, ``add_text``.

    A resumed run writes to the same folder; what a killed process had logged after the checkpoint is dropped there.

    Args:
        folder: The folder of the event file. Use one folder per run.

    Raises:
        UsageError: ``tensorboard`` is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # only here: a slow import, which may be missing
        except ImportError as error:
            raise UsageError(
                f"TensorBoardLogger: cannot import tensorboard ({error}). Install it with pip install 'fsmtrain[tensorboard]'."
            ) from error
        self._folder, self._create_writer = os.fspath(folder), SummaryWriter
        self._writer: Any = None
        self._purge_step: int | None = None

    def begin_run(self, run_id: str | None, name: str | None, resumed_step: int | None) -> None:
        """Begin a run. If it is resumed, drop what was logged at the checkpoint's step or later; it is logged again."""
        if resumed_step is not None:
            self.close()
            self._purge_step = resumed_step

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Write the metrics of one step. The first call creates the event file."""
        writer = self.writer
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    @property
    def experiment(self) -> Any:
        """Torch's ``SummaryWriter``, for what is no number: images, figures, histograms, text. Any thread may use it."""
        if self._writer is None:
            purge = {} if self._purge_step is None else {"purge_step": self._purge_step}
            self._writer, self._purge_step = self._create_writer(self._folder, flush_secs=1, **purge), None
        return self._writer

    @property
    def writer(self) -> Any:
        """The same as `experiment`."""
        return self.experiment

    @property
    def name(self) -> str:
        """The name of the folder."""
        return os.path.basename(os.path.abspath(self._folder))

    @property
    def log_dir(self) -> str:
        """The folder."""
        return self._folder

    def log_hyperparams(self, hparams: Mapping[str, Any]) -> None:
        """Write the hyperparameters, which TensorBoard lists on its page HPARAMS; those in dicts as ``optimizer/lr``."""
        from torch.utils.tensorboard.summary import hparams as summaries

        values = {name: value if isinstance(value, (bool, int, float, str)) else str(value) for name, value in _flat(hparams)}
        for summary in summaries(values, {}):  # type: ignore[no-untyped-call]
            self.writer._get_file_writer().add_summary(summary)

    def flush(self) -> None:
        """Hand what has been written to the operating system, so that it outlives a kill. Called before each checkpoint."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Close the event file. A later `log_metrics` creates another one in the same folder."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class WandbLogger:
    """Log to Weights & Biases: ``Trainer(logger=WandbLogger(project="digits"))``. Needs ``pip install 'fsmtrain[wandb]'``.

    The run there has the identity of the recorded run, so a resumed run continues it, and a test after ``fit`` is part of it.
    Metrics are drawn over ``global_step``. A resumed run leaves out the steps that the server has already.

    Args:
        project: The project; None: that of the environment.
        name: The name of the run; None: that of the run's folder.
        settings: Other arguments of ``wandb.init``, such as ``mode="offline"``, ``group``, ``tags``, ``dir``.

    Raises:
        MissingExtraError: ``wandb`` is not installed.
    """

    def __init__(self, project: str | None = None, name: str | None = None, **settings: Any) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingExtraError(
                f"WandbLogger: cannot import wandb ({error}). Install it with pip install 'fsmtrain[wandb]'."
            ) from error
        self._wandb, self._project, self._name, self._settings = wandb, project, name, settings
        self._given_id: str | None = settings.pop("id", None)
        self._id: str | None = self._given_id
        self._run_name = name
        self._run: Any = None
        self._logged_step = -1  # by an earlier process of a resumed run

    def begin_run(self, run_id: str | None, name: str | None, resumed_step: int | None) -> None:
        """Continue the run of this identity, or begin it."""
        if run_id is not None:
            self._id, self._run_name = self._given_id or run_id, self._name or name
        self._logged_step = -1
        if resumed_step is not None:
            last = self.experiment.summary.get("global_step")
            self._logged_step = last if isinstance(last, int) else -1

    @property
    def experiment(self) -> Any:
        """The ``wandb.Run``, for what is no number: ``self.logger.experiment.log({"samples": wandb.Image(...)})``."""
        if self._run is None:
            resume = {} if self._id is None else {"id": self._id, "resume": "allow"}
            self._run = self._wandb.init(project=self._project, name=self._run_name, **{**resume, **self._settings})
            self._run.define_metric("*", step_metric="global_step")
        return self._run

    @property
    def name(self) -> str | None:
        """The name of the run."""
        return self._run_name

    @property
    def version(self) -> str | None:
        """The identity of the run."""
        run_id: str | None = self._id
        return run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of one step."""
        if step >= self._logged_step:
            self.experiment.log({**metrics, "global_step": step})

    def log_hyperparams(self, hparams: Mapping[str, Any]) -> None:
        """Add the hyperparameters to the run's config."""
        self.experiment.config.update(dict(hparams), allow_val_change=True)

    def close(self) -> None:
        """Finish the run. A later call continues it."""
        if self._run is not None:
            self._id = self._run.id
            self._run.finish()
            self._run = None


class MLflowLogger:
    """Log to MLflow: ``Trainer(logger=MLflowLogger("digits"))``. Needs ``pip install 'fsmtrain[mlflow]'``.

    The run there has the identity of the recorded run as a tag, so a resumed run continues it, and a test after ``fit`` is part
    of it. A resumed run leaves out the steps of each metric that the store has already.

    Args:
        experiment_name: The name of the experiment.
        tracking_uri: The store: a server, a database, a folder (``file:./mlruns``); None: that of the environment.
        run_name: The name of the run; None: that of the run's folder.

    Raises:
        MissingExtraError: ``mlflow`` is not installed.
    """

    def __init__(self, experiment_name: str = "fsmtrain", tracking_uri: str | None = None, run_name: str | None = None) -> None:
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise MissingExtraError(
                f"MLflowLogger: cannot import mlflow ({error}). Install it with pip install 'fsmtrain[mlflow]'."
            ) from error
        self._client = MlflowClient(tracking_uri)
        self._experiment_name, self._run_name = experiment_name, run_name
        self._identity: str | None = None
        self._folder_name: str | None = None
        self._run_id: str | None = None
        self._is_resumed = False
        self._logged_steps: dict[str, int] = {}  # of each metric, by an earlier process of a resumed run

    def begin_run(self, run_id: str | None, name: str | None, resumed_step: int | None) -> None:
        """Continue the run with this identity, or begin one."""
        if run_id is not None and run_id != self._identity:
            self._run_id, self._identity, self._folder_name = None, run_id, name
        self._logged_steps = {}
        self._is_resumed = resumed_step is not None

    @property
    def experiment(self) -> Any:
        """The ``MlflowClient``, for what is no number: ``self.logger.experiment.log_artifact(self.logger.run_id, path)``."""
        return self._client

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return self._experiment_name

    @property
    def version(self) -> str:
        """The same as `run_id`."""
        return self.run_id

    @property
    def run_id(self) -> str:
        """The identity of the run in MLflow; the first use finds the run to continue, or begins one."""
        if self._run_id is None:
            found = self._client.get_experiment_by_name(self._experiment_name)
            experiment_id = found.experiment_id if found is not None else self._client.create_experiment(self._experiment_name)
            self._run_id = self._find_run(experiment_id) or self._create_run(experiment_id)
            self._client.update_run(self._run_id, status="RUNNING")
        return self._run_id

    def _find_run(self, experiment_id: str) -> str | None:
        if self._identity is None:
            return None
        runs = self._client.search_runs([experiment_id], f"tags.`fsmtrain.run_id` = '{self._identity}'", max_results=1)
        return runs[0].info.run_id if runs else None

    def _create_run(self, experiment_id: str) -> str:
        tags = {} if self._identity is None else {"fsmtrain.run_id": self._identity}
        run_id: str = self._client.create_run(
            experiment_id, tags=tags, run_name=self._run_name or self._folder_name
        ).info.run_id
        return run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of one step."""
        run_id = self.run_id
        for name, value in metrics.items():
            if not self._is_resumed or step > self._logged_step(name):
                self._client.log_metric(run_id, name, value, step=step)

    def _logged_step(self, name: str) -> int:
        """Return the last step of a metric that the store had when the run was resumed."""
        if name not in self._logged_steps:
            history = self._client.get_metric_history(self.run_id, name)
            self._logged_steps[name] = max((metric.step for metric in history), default=-1)
        return self._logged_steps[name]

    def log_hyperparams(self, hparams: Mapping[str, Any]) -> None:
        """Log the hyperparameters; those in dicts as ``optimizer/lr``. One that a resumed run has changed stays as it was."""
        run_id = self.run_id
        known = self._client.get_run(run_id).data.params
        for name, value in _flat(hparams):
            if name not in known:
                self._client.log_param(run_id, name, value)

    def finalize(self, status: str) -> None:
        """Set the state of the run. A later call continues it."""
        if self._run_id is not None:
            self._client.set_terminated(self._run_id, "FINISHED" if status == "success" else "FAILED")


def _flat(hparams: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the hyperparameters with those in dicts by path.

    >>> dict(_flat({"lr": 0.1, "optimizer": {"name": "adam", "betas": [0.9, 0.99]}}))
    {'lr': 0.1, 'optimizer/name': 'adam', 'optimizer/betas': [0.9, 0.99]}
    """
    for name, value in hparams.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value
