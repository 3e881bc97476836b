"""A file is replaced whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest

from fsmtrain.replace_file import replace_file


@pytest.mark.parametrize("durable", [False, True])
def test_the_target_is_replaced_and_nothing_else_is_left(tmp_path: Path, durable: bool) -> None:
    target = tmp_path / "status.json"
    replace_file(target, b"old", durable=durable)
    replace_file(target, lambda file: file.write(b"new"), durable=durable)
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_write_that_fails_leaves_the_old_content_and_no_temporary_file(tmp_path: Path) -> None:
    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError("no space left")

    target = tmp_path / "model.ckpt"
    target.write_bytes(b"old")
    with pytest.raises(OSError, match="no space left"):
        replace_file(target, fail)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_readers_see_the_old_content_until_the_new_one_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "status.json"
    target.write_bytes(b"old")
    seen = []

    def content(file: BinaryIO) -> None:
        file.write(b"half")
        file.flush()
        seen.append(target.read_bytes())

    replace_file(target, content)
    assert seen == [b"old"]
