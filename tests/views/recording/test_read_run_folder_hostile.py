"""Run folders that were damaged, or made to do damage: reports, the search for a run and resumed runs, within bounds.

With ``FSMTRAIN_FUZZ=100`` in the environment at a hundred times as many damaged bytes and changed values.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsmtrain import Machine, ModelCheckpoint
from fsmtrain.errors import FsmtrainError, UsageError
from fsmtrain.views.recording.folder_lock import LOCK_FILE, lock_folder
from fsmtrain.views.recording.read_run_folder import find_run_folder, read_run_folder
from fsmtrain.views.recording.report.page import render_page
from tests.bounded import bounded
from tests.strange_files import STRANGE_FILES, make_strange_file
from tests.views.recording.report.reported_runs import Page, metrics_row, record_run, write_run_folder

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]

EFFORT = int(os.environ.get("FSMTRAIN_FUZZ", "1"))
JSON_FILES = ("run.json", "table.json", "status.json", "end.json", "metrics.jsonl", "timeline.jsonl")
ALL_FILES = (*JSON_FILES, "log.txt", "metrics.csv", LOCK_FILE)
REPORT_MULTIPLE = 1000  # bytes of memory for each byte of a folder, as docs/run-folder.md says


def machine(runs: Path, **flags: Any) -> Machine:
    return record_run(runs, test=2, callbacks=[ModelCheckpoint(every_n_batches=3, save_top_k=-1)], **flags)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("sound") / "runs"
    machine(runs).run()
    return runs


@pytest.fixture
def runs(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "runs"))


def reported(runs: Path) -> bool:
    """Whether the run has a report, which is a page; if not, that is an error of ours."""
    size = sum(path.lstat().st_blocks * 512 for path in (runs / "0").iterdir())
    with bounded(size, REPORT_MULTIPLE):
        try:
            source = render_page(read_run_folder(runs / "0"), datetime.now().astimezone())
        except UsageError:
            return False
        finally:
            with contextlib.suppress(UsageError):
                find_run_folder(None, runs)
    assert Page(source).wrong == []
    return True


# ---- files that are none


@pytest.mark.parametrize("kind", STRANGE_FILES)
@pytest.mark.parametrize("name", ALL_FILES)
def test_what_stands_in_place_of_a_file_stops_no_report(runs: Path, name: str, kind: str) -> None:
    make_strange_file(runs / "0" / name, kind)
    assert reported(runs) == (name != "run.json")


@pytest.mark.parametrize("kind", STRANGE_FILES)
@pytest.mark.parametrize("name", ALL_FILES)
def test_what_stands_in_place_of_a_file_ends_the_recording_and_not_the_run(runs: Path, name: str, kind: str) -> None:
    """A run that is resumed there goes to its end, or is refused with an error of ours."""
    make_strange_file(runs / "0" / name, kind)
    resumed = machine(runs, max_nb_epochs=3)
    with bounded(0, REPORT_MULTIPLE), contextlib.suppress(FsmtrainError):
        resumed.resume(runs / "0")
        assert resumed.run().counters.epochs_done == 3


@pytest.mark.parametrize("kind", STRANGE_FILES)
def test_what_stands_in_place_of_the_lock_is_locked_or_an_error(tmp_path: Path, kind: str) -> None:
    make_strange_file(tmp_path / LOCK_FILE, kind)
    with bounded(0), contextlib.suppress(OSError):
        lock = lock_folder(tmp_path)
        assert lock is not None
        assert lock_folder(tmp_path) is None
        lock.release()


@pytest.mark.parametrize("kind", STRANGE_FILES)
def test_what_stands_in_place_of_a_run_is_passed_over(runs: Path, kind: str) -> None:
    make_strange_file(runs / "1", kind)
    make_strange_file(runs / "0" / "checkpoints", kind)
    with bounded(0, REPORT_MULTIPLE):
        assert find_run_folder(None, runs) == runs / "0"
        with contextlib.suppress(FsmtrainError):
            machine(runs).resume_from("auto")


# ---- damaged and hostile content


def damaged(data: bytes, name: str) -> Iterator[bytes]:
    chance = random.Random(name)
    for _ in range(5 * EFFORT):
        position = chance.randrange(len(data))
        flipped = bytearray(data)
        flipped[position] ^= 1 << chance.randrange(8)
        yield bytes(flipped)
        yield data[:position]
        yield data[:position] + data[position + 1 :]
    yield from (data + b"\0", data + data, b"", bytes(len(data)))


@pytest.mark.parametrize("name", ALL_FILES)
def test_damaged_bytes_stop_no_report(runs: Path, name: str) -> None:
    path = runs / "0" / name
    for changed in damaged(path.read_bytes() or b"\n", name):
        path.write_bytes(changed)
        assert reported(runs) or name == "run.json"


HOSTILE = {
    "deep": b"[" * 100_000,
    "brackets and quotes": b'"\\' * 100_000,
    "numbers": b'{"step": ' + b"9" * 4000 + b', "values": {"a": 1e999}, "kind": "train"}\n',
    "lines": b"\n" * 300_000,
    "empty rows": b"{}\n" * 100_000,
    "lists": b"[[]]\n" * 60_000,
    "no text": b"\xff\xfe" * 100_000,
    "a long line": b'{"a": "' + b"x" * 300_000,
}


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", ALL_FILES)
def test_hostile_content_stops_no_report(runs: Path, name: str, hostile: str) -> None:
    (runs / "0" / name).write_bytes(HOSTILE[hostile])
    assert reported(runs) == (name != "run.json")


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", ALL_FILES)
def test_hostile_content_stops_no_resumed_run(runs: Path, name: str, hostile: str) -> None:
    (runs / "0" / name).write_bytes(HOSTILE[hostile])
    resumed = machine(runs, max_nb_epochs=3)
    with bounded(len(HOSTILE[hostile]), REPORT_MULTIPLE), contextlib.suppress(FsmtrainError):
        resumed.resume(runs / "0")
        assert resumed.run().counters.epochs_done == 3


def test_a_row_of_many_metrics_takes_a_multiple_of_its_size(tmp_path: Path) -> None:
    rows = [metrics_row(step, {f"metric {n}": 0.5 for n in range(5_000)}) for step in range(3)]
    write_run_folder(tmp_path / "0", rows)
    assert reported(tmp_path)


# ---- values of another kind

forged_values = st.sampled_from(
    [
        None,
        True,
        -1,
        2**62,
        10**300,
        1e308,
        -1.5,
        "",
        "x" * 300,
        "NaN",
        [],
        [None],
        [0, 0, 0],
        {},
        {"a": 1},
        {"step": [1, 2]},
        [[1]],
    ]
)


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from nodes(inner)


@settings(max_examples=60 * EFFORT)
@given(st.data())
def test_a_value_of_another_kind_stops_no_report_and_no_resumed_run(
    sound: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    runs = Path(shutil.copytree(sound, tmp_path_factory.mktemp("forged") / "runs"))
    path = runs / "0" / data.draw(st.sampled_from(JSON_FILES))
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    number = data.draw(st.integers(0, len(lines) - 1))
    content = json.loads(lines[number])
    holder, key = data.draw(st.sampled_from(list(nodes(content))))
    holder[key] = data.draw(forged_values)
    lines[number] = json.dumps(content)
    path.write_text("".join(f"{line}\n" for line in lines))
    reported(runs)
    if data.draw(st.integers(0, 9)) == 0:
        with contextlib.suppress(FsmtrainError):
            resumed = machine(runs, max_nb_epochs=3)
            resumed.resume(runs / "0")
            assert resumed.run().counters.epochs_done == 3


def test_a_section_whose_data_are_damaged_is_left_out_and_named(runs: Path) -> None:
    path = runs / "0" / "end.json"
    end = json.loads(path.read_text())
    path.write_text(json.dumps({**end, "optimizer_steps": ["many"]}))
    page = Page(render_page(read_run_folder(runs / "0"), datetime.now().astimezone()))
    assert "The section steps is left out: its data are damaged (ValueError" in page.text
    assert "Curves" in page.texts["h2"]
