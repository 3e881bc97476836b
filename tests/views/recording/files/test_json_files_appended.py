"""Files of lines: a kill or a full disk in the middle of a line harms no other line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.views.recording.files.json_files import AppendFile, JsonLinesFile
from fsmtrain.views.recording.files.json_values import json_line

ROWS = [{"n": n, "text": "x" * n} for n in (0, 1, 70_000, 3)]
CONTENT = b"".join(map(json_line, ROWS))


@given(st.integers(0, len(CONTENT)))
def test_after_a_kill_at_any_byte_whole_lines_stay_and_new_ones_follow(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "metrics.jsonl"
    path.write_bytes(CONTENT[:cut])
    file = JsonLinesFile(path)
    file.append_rows([{"new": 1}])
    file.close()
    whole = CONTENT[:cut].count(b"\n")
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == [*ROWS[:whole], {"new": 1}]


@pytest.mark.parametrize("fits", [0, 1, 5, 30])
def test_an_append_that_fails_leaves_whole_lines(tmp_path: Path, fits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk:
        """A file whose disk has room for so many more bytes."""

        def __init__(self, file: Any) -> None:
            self._file, self._room = file, fits

        def write(self, content: memoryview) -> int:
            if self._room == 0:
                raise OSError(28, "No space left on device")
            written = self._file.write(content[: self._room])
            self._room -= written
            return int(written)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    file = AppendFile(tmp_path / "metrics.jsonl")
    file.append(b"one line\n")
    monkeypatch.setattr(file, "_file", FullDisk(file._file))
    with pytest.raises(OSError, match="No space left"):
        file.append(b"a second line\n" + b"a third line, which is longer\n")
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"one line\n"


def test_names_that_are_no_unicode_stay_apart(tmp_path: Path) -> None:
    file = JsonLinesFile(tmp_path / "metrics.jsonl")
    values = {chr(0xD800): 1, chr(0xD801): 2, "?": 3}
    file.append_rows([values])
    assert list(file.read_rows()) == [values]
    file.close()
