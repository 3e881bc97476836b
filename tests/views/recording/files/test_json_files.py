"""Files that another process wrote, or that are none: what is no JSON is damaged, and nothing waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsmtrain.views.recording.files.json_files import read_json, read_json_lines, read_text
from fsmtrain.views.recording.git_commit import read_git_commit
from tests.bounded import bounded
from tests.strange_files import SAYS, STRANGE_FILES, make_strange_file

HOSTILE = {
    "deep": b"[" * 100_000,
    "deep and closed": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "brackets and quotes": b'"\\' * 100_000,
    "digits": b'{"a":' + b"1" * 100_000 + b"}",
    "a constant": b'{"a": NaN}',
    "no text": b'{"a": "\xff"}',
    "a list": b"[1]",
    "zeros": bytes(100_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_json_is_damaged(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(HOSTILE[name])
    with bounded(len(HOSTILE[name])):
        assert read_json(path) == {}
        assert list(read_json_lines(path)) == [None]


def test_damaged_lines_leave_the_others(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join([b'{"a": 1}\n', b"[" * 100_000, b"\n\n", b'{"a": 2}\n', b'{"a": 3']))
    assert list(read_json_lines(path)) == [{"a": 1}, None, {"a": 2}, None]


@pytest.mark.parametrize("kind", STRANGE_FILES)
def test_what_is_no_file_stops_no_reader(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run.json"
    make_strange_file(path, kind)
    with bounded(0):
        assert read_json(path) == {}
        assert read_text(path) == ""
        if kind == "broken link":
            assert list(read_json_lines(path)) == []
        else:
            with pytest.raises(OSError, match=SAYS):
                list(read_json_lines(path))


@pytest.mark.parametrize("kind", STRANGE_FILES)
@pytest.mark.parametrize("name", [".git", ".git/HEAD", ".git/refs/heads/main", ".git/commondir", ".git/packed-refs"])
def test_no_repository_stops_the_search_for_its_commit(tmp_path: Path, name: str, kind: str) -> None:
    if name != ".git":
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
        make_strange_file(tmp_path / name, kind)
    else:
        make_strange_file(tmp_path / name, kind)
    with bounded(0):
        assert read_git_commit(tmp_path) is None or kind in ("broken link", "folder")


def test_only_a_hash_is_recorded_as_the_commit(tmp_path: Path) -> None:
    """A reference may name any file."""
    (tmp_path / "secret").write_text("the text of a file elsewhere")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref: ../secret\n")
    assert read_git_commit(tmp_path) is None
    (tmp_path / "secret").write_text("0123456789abcdef" * 2 + "01234567\n")
    assert read_git_commit(tmp_path) == "0123456789abcdef" * 2 + "01234567"
