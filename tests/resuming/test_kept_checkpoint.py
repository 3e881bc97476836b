"""A checkpoint that an earlier version saved is resumed, to the same bits as a run that was never stopped."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

from fsmtrain import State
from tests.models import same_bits
from tests.resuming.kept_checkpoint import FOLDER, SAVED_AFTER, machine, outcome


def test_the_kept_checkpoint_resumes_to_the_bits_of_a_run_that_was_never_stopped(tmp_path: Path) -> None:
    (kept,) = FOLDER.iterdir()
    shutil.copytree(kept, tmp_path / "copy" / kept.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other versions of Python and torch, and batches that are loaded again
        resumed = machine(tmp_path / "resumed")
        resumed.resume(tmp_path / "copy")
        assert (resumed.state, resumed.counters.current_epoch, resumed.counters.batch_nb) == (
            State.ROUND_END,
            1,
            SAVED_AFTER - 1,
        )
        assert resumed.counters.open_windows == 1
        assert same_bits(outcome(resumed), outcome(machine(tmp_path / "whole")))
