"""``limit_train_batches`` and the like, and ``fast_dev_run``, in real runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fsmtrain import Guards, ModelCheckpoint, Trainer, every_n_batches
from tests.models import Perceptron, batches, machine_of


class Counting:
    """A stream of two-sample batches that counts how many it was asked for."""

    def __init__(self, length: int = 50) -> None:
        self.length, self.asked = length, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.length):
            self.asked += 1
            yield torch.randn(2, 3), torch.randn(2, 1)


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_batches_of_a_stream_are_fetched_than_are_used(limit: int) -> None:
    train, val, test = Counting(), Counting(), Counting()
    flags: dict[str, Any] = {f"limit_{name}_batches": limit for name in ("train", "val", "test")}
    machine = machine_of(Perceptron(), train, val, test, max_nb_epochs=2, val_check_interval=1, **flags)
    machine.run()
    assert machine.counters.batches_begun == train.asked == 2 * limit
    assert machine.counters.validations_done == 2 * limit
    assert val.asked == limit * (2 * limit + 1)  # and the sanity pass
    assert test.asked == limit


def test_a_stream_that_ends_before_its_limit_ends_the_epoch() -> None:
    machine = machine_of(Perceptron(), Counting(4), max_nb_epochs=2, limit_train_batches=9)
    machine.run()
    assert machine.counters.batches_begun == 8


@pytest.mark.parametrize("fast", [True, 2])
def test_fast_dev_run_tries_each_loop_and_leaves_nothing_behind(
    fast: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = Trainer(fast_dev_run=fast, quiet=True, callbacks=[ModelCheckpoint()], guards=Guards(save=every_n_batches(1)))
    model = Perceptron()
    result = trainer.fit(model, batches(20), batches(20))
    trainer.test(test_dataloaders=batches(20))
    assert (result.counters.batches_begun, result.counters.validations_done) == (int(fast), 1)
    assert list(tmp_path.iterdir()) == []
