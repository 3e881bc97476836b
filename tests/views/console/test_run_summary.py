"""The table at the end of a run."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.states import State
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.views.console.run_summary import bottleneck, states_table
from fsmtrain.views.loader_workers import LoaderWorkers, usable_cpus

TIMES = {State.STEP: Timing(45, 0.75), State.FETCH: Timing(90, 0.25), State.TRAIN_BATCH: Timing(1_234_567, 9.0)}


def rows(times: dict[State, Timing], reason: StopReason | None = StopReason.REQUESTED) -> list[list[str]]:
    """The cells of the table, its sentence left out."""
    return [line.split() for line in states_table(times, reason).splitlines()[1:] if not line.startswith(("Why", "The"))]


def test_each_visited_state_has_a_row_in_the_order_of_the_loop_and_the_last_row_is_the_total() -> None:
    assert rows(TIMES) == [
        ["fetch", "90", "0.250", "2.5%", "2,778"],
        ["train_batch", "1,234,567", "9.000", "90.0%", "7.3"],
        ["step", "45", "0.750", "7.5%", "16,667"],
        ["total", "1,234,702", "10.000", "100.0%"],
    ]


def test_numbers_end_and_names_begin_below_each_other() -> None:
    lines = states_table(TIMES, StopReason.REQUESTED).splitlines()
    assert len({len(line) for line in lines[:4]}) == 1
    assert all(line[0] != " " for line in lines)
    ends = [line.index("%") for line in lines[1:5]]
    assert len(set(ends)) == 1


@pytest.mark.parametrize("reason", [*StopReason, None])
@pytest.mark.parametrize("visits", [1, 10**12])
def test_no_line_is_longer_than_80_columns(reason: StopReason | None, visits: int) -> None:
    """Not even after a run of a year with all states."""
    text = states_table({state: Timing(visits, 3e7) for state in State}, reason)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("reason", StopReason)
def test_the_last_sentence_is_the_stop_reason(reason: StopReason) -> None:
    table = states_table(TIMES, reason)
    assert f"Why it stopped: {reason}." in " ".join(table.splitlines())


def test_the_summary_of_a_run_that_did_not_end_says_unfinished() -> None:
    assert states_table(TIMES, None).splitlines()[-1] == "The run did not finish."


def test_a_run_without_any_visit_or_measurable_time_has_a_table_too() -> None:
    assert rows({}) == [["total", "0", "0.000", "0.0"][:3]]
    assert rows({State.START: Timing(1, 0.0)}) == [["start", "1", "0.000", "0.0"], ["total", "1", "0.000"]]


# ---- the bottleneck


@pytest.mark.parametrize(
    ("times", "loading", "wall", "told"),
    [
        ({State.FETCH: 4.2, State.STEP: 5.8}, 4.1, 10.0, "41 % of the time waiting for the loader"),
        ({State.FETCH: 1.9, State.STEP: 8.1}, 1.9, 10.0, ""),
        ({State.STEP: 4.0, State.VAL_CHECK: 6.0}, 0.1, 10.0, "60 % of the time validating"),
        ({State.STEP: 5.1, State.VAL_CHECK: 4.9}, 0.1, 10.0, ""),
        ({State.STEP: 4.0, State.VAL_CHECK: 6.0}, 7.0, 10.0, "70 % of the time waiting for the loader"),
        ({State.STEP: 7.5, State.SAVE: 2.5}, 0.0, 10.0, "25 % of the time saving checkpoints"),
        ({State.STEP: 7.0}, 0.0, 10.0, "30 % of the time between visits"),
        ({State.FETCH: 0.5, State.STEP: 0.4}, 0.5, 0.9, ""),
        ({}, 0.0, 0.0, ""),
    ],
)
def test_one_sentence_names_what_took_too_much_where_something_did(
    times: dict[State, float], loading: float, wall: float, told: str
) -> None:
    spent = {state: Timing(10, seconds) for state, seconds in times.items()}
    sentence = bottleneck(spent, Timing(10, loading), wall)
    assert told in sentence
    assert bool(told) == bool(sentence)
    assert sentence in " ".join(states_table(spent, None, data_wait=Timing(10, loading), wall_seconds=wall).splitlines())


@pytest.mark.parametrize(
    ("workers", "epochs", "told"),
    [
        (
            LoaderWorkers(num_workers=2, restarts=True, cpus=2),
            4,
            "2 workers start anew in each pass; DataLoader(persistent_work",
        ),
        (
            LoaderWorkers(num_workers=1, restarts=True, cpus=2),
            4,
            "1 worker starts anew in each pass; DataLoader(persistent_work",
        ),
        (LoaderWorkers(num_workers=2, restarts=True, cpus=2), 1, "num_workers=2, all CPUs"),
        (LoaderWorkers(num_workers=2, cpus=2), 4, "num_workers=2, all CPUs"),
        (LoaderWorkers(num_workers=3, cpus=2), 4, "num_workers=3, all CPUs"),
        (LoaderWorkers(num_workers=2, cpus=8), 4, "num_workers=2; more may help, up to 8, the number of CPUs."),
        (LoaderWorkers(num_workers=0, cpus=8), 4, "num_workers=0; num_workers=..., persistent_workers=True may help, up to 8"),
        (LoaderWorkers(), 4, "a DataLoader with num_workers=... may help."),
    ],
)
def test_a_run_that_waits_for_its_loader_gets_advice_about_the_workers_it_has(
    workers: LoaderWorkers, epochs: int, told: str
) -> None:
    times = {State.FETCH: Timing(10, 9.0), State.EPOCH_END: Timing(epochs, 0.1)}
    assert told in bottleneck(times, Timing(10, 9.0), 10.0, workers)


def test_the_workers_are_those_of_the_loader_that_has_most() -> None:
    data = TensorDataset(torch.ones(1))
    one, two = DataLoader(data, num_workers=1), DataLoader(data, num_workers=2, persistent_workers=True)
    cpus = usable_cpus()
    assert LoaderWorkers.of([[1], one]) == LoaderWorkers(num_workers=1, restarts=True, cpus=cpus)
    assert LoaderWorkers.of([one, two, DataLoader(data)]) == LoaderWorkers(num_workers=2, cpus=cpus)
    assert LoaderWorkers.of([[1], [2]]) == LoaderWorkers(cpus=cpus)


def test_the_rows_sum_to_the_wall_time_what_lies_between_the_visits_included() -> None:
    cells = [line.split() for line in states_table(TIMES, None, wall_seconds=12.5).splitlines()]
    assert cells[4] == ["(between", "visits)", "2.500", "20.0%"]
    assert cells[5] == ["total", "1,234,702", "12.500", "100.0%"]


def test_the_time_of_a_gpu_has_a_column_where_it_is_known() -> None:
    [heading, fetch, train, *_] = states_table(TIMES, None, device_times={State.TRAIN_BATCH: Timing(9, 1.5)}).splitlines()
    assert heading.endswith("GPU (s)")
    assert train.endswith("1.500")
    assert not fetch.endswith("1.500")
