"""`TensorBoardLogger`."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from fsmtrain.errors import UsageError
from fsmtrain.loggers import TensorBoardLogger


class Writer:
    """A stand-in for TensorBoard's writer."""

    made: list[Writer]

    def __init__(self, folder: str, **_: Any) -> None:
        self.folder, self.scalars, self.closed = folder, list[tuple[str, float, int]](), False
        type(self).made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    """Replace TensorBoard's writer; return the writers that are created."""
    Writer.made = []
    stand_in = types.ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    return Writer.made


def test_each_metric_is_a_scalar_at_its_step_and_a_logger_can_be_used_again(writers: list[Writer]) -> None:
    logger = TensorBoardLogger(Path("a") / "b")
    assert writers == [], "nothing is made before there is something to write"
    logger.log_metrics({"loss": 1.0, "lr": 0.1}, 3)
    logger.close()
    logger.close()
    logger.log_metrics({"loss": 0.5}, 4)
    assert [(writer.folder, writer.closed) for writer in writers] == [
        (str(Path("a") / "b"), True),
        (str(Path("a") / "b"), False),
    ]
    assert [writer.scalars for writer in writers] == [[("loss", 1.0, 3), ("lr", 0.1, 3)], [("loss", 0.5, 4)]]


def test_what_is_no_number_goes_to_the_logger_s_own_writer(writers: list[Writer]) -> None:
    logger = TensorBoardLogger("a")
    assert logger.writer is logger.writer is writers[0]


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install 'fsmtrain\[tensorboard\]'"):
        TensorBoardLogger("a")


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path)
    for step in range(3):
        logger.log_metrics({"loss": 1.0 / (step + 1)}, step)
    logger.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    events_of_loss = events.Scalars("loss")
    assert [event.step for event in events_of_loss] == [0, 1, 2]
    assert [event.value for event in events_of_loss] == pytest.approx([1.0, 0.5, 1 / 3])


def test_hyperparameters_are_on_tensorboard_s_own_page(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({"lr": 0.1, "optimizer": {"betas": [0.9, 0.99]}, "act": None})
    logger.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    info = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert all(name in info for name in (b"lr", b"optimizer/betas", b"[0.9, 0.99]", b"act", b"None"))
