"""A signal to the whole process group, workers included: the run stops, saves, and resumes to the same bits.

All combinations are one command, see `signals`; here are some of them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fsmtrain import Guards, Machine, SeededDataLoader, State, every_n_batches
from tests.models import Perceptron, Samples, StartCounts, Stream, TransitionRecorder, machine_of
from tests.resuming.kill_and_resume import differences, outcome
from tests.resuming.resume_scenarios import NoisySamples, adam_of
from tests.resuming.signal_matrix import Case, stop_and_resume, uninterrupted_outcome

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no groups of processes")
@pytest.mark.parametrize(
    "case",
    [
        Case("SIGINT", "fork", "between", 16),
        Case("SIGUSR1", "forkserver", "fetched", 40),
        Case("SIGTERM", "forkserver", "starting", 2),
    ],
    ids=str,
)
def test_a_signal_to_the_group_stops_the_run_and_it_resumes_to_the_same_bits(
    tmp_path: Path, reference: Any, case: Case
) -> None:
    assert stop_and_resume(tmp_path, reference, case) == []


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run to which nobody sends anything."""
    return uninterrupted_outcome(tmp_path_factory.mktemp("whole"))


# ---- a pass that cannot be begun


class Breaking:
    """Of a loader: it draws when a pass is begun. In one that is chosen a worker dies, right then or later, after a request."""

    passes = at = 0
    later = False
    stop: Callable[[], None]

    def __iter__(self) -> Any:
        Breaking.passes += 1
        iterator = super().__iter__()  # type: ignore[misc]
        torch.rand(1), random.random(), np.random.rand()
        if Breaking.passes != Breaking.at:
            return iterator
        Breaking.stop()
        if not Breaking.later:
            raise Dead
        return Broken()


Dead = RuntimeError("DataLoader worker (pid(s) 1) exited unexpectedly")


class Broken(Iterator[Any]):
    """Of a loader whose worker is dead."""

    def __next__(self) -> Any:
        raise Dead


class BreakingLoader(Breaking, DataLoader[Any]):
    """Torch's own."""


class BreakingSeeded(Breaking, SeededDataLoader):
    """One with a state."""


def sized(n: int) -> Any:
    return BreakingLoader(NoisySamples(n), batch_size=2, shuffle=True)


def streamed(n: int) -> Any:
    return BreakingLoader(Stream(Samples(n), n), batch_size=2)


def with_a_generator(n: int) -> Any:
    return BreakingLoader(Samples(n), batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(n))


def seeded(n: int) -> Any:
    return BreakingSeeded(NoisySamples(n), batch_size=2, shuffle=True, seed=n)


def machine(make: Any, callbacks: Iterable[object]) -> Machine:
    torch.manual_seed(0)
    given = {"max_nb_epochs": 3, "val_check_interval": 2, "seed": 1}
    guards = Guards(save=every_n_batches(2))
    return machine_of(Perceptron(adam_of), make(8), make(4), guards=guards, callbacks=callbacks, **given)


@pytest.fixture(autouse=True)
def _unbroken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    Breaking.passes = Breaking.at = 0
    yield
    Breaking.passes = Breaking.at = 0


@pytest.mark.filterwarnings("ignore:.*must be loaded again")
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("make", [sized, streamed, with_a_generator, seeded])
def test_a_pass_whose_workers_died_at_its_beginning_starts_on_resume(make: Any, later: bool) -> None:
    """Where it could not be begun nothing was drawn; in any case no hook is called twice."""
    visits, starts = TransitionRecorder(), StartCounts()
    run = machine(make, [visits, starts])
    run.run()
    reference, begun = {**outcome(run, visits), "starts": vars(starts)}, Breaking.passes
    assert begun > 8
    met = set()
    for at in range(1, begun + 1):
        Breaking.passes, Breaking.at = 0, at
        broken = machine(make, [StartCounts()])
        Breaking.stop, Breaking.later = broken.stop, later
        broken.run()
        assert broken.state is State.STOPPED
        met.add(broken.last_state)
        Breaking.at = 0
        visits, starts = TransitionRecorder(), StartCounts()
        run = machine(make, [visits, starts])
        run.resume()
        run.run()
        assert differences(reference, {**outcome(run, visits), "starts": vars(starts)}) == [], at
    assert met == {State.SANITY_VAL, State.FETCH, State.VAL_CHECK}
