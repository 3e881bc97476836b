"""Files that are none: each is an error, at once."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from fsmtrain.plain_files import open_plain_file, read_plain_file
from tests.bounded import bounded
from tests.strange_files import SAYS, STRANGE_FILES, make_strange_file


def test_a_file_is_read_through_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_plain_file(tmp_path / "link", 7) == read_plain_file(tmp_path / "file", 7) == b"content"
    with open_plain_file(tmp_path / "file", 7) as file:
        assert file.read() == b"content"


@pytest.mark.parametrize("kind", STRANGE_FILES)
def test_what_is_no_plain_file_is_an_error_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    make_strange_file(path, kind)
    with bounded(0), pytest.raises(OSError, match=SAYS):
        read_plain_file(path, 2**20)


def test_a_file_over_the_bound_is_an_error_with_both_numbers(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with pytest.raises(OSError, match="it has 5 bytes, more than the 4 that are read") as raised:
        read_plain_file(tmp_path / "file", 4)
    assert raised.value.errno == errno.EFBIG
