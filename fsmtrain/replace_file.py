"""Replace a single file in one step: readers find the old content or the new one, never a part.

Checkpoints are folders of files; `runtime.checkpoint_files.store` commits them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from fsmtrain.sync_files import sync_file, sync_folder


def replace_file(path: Path, content: bytes | Callable[[BinaryIO], object], *, durable: bool = False) -> None:
    """Replace a file in one step: write a temporary file beside it, and rename that.

    Args:
        path: The target. Its folder exists.
        content: The bytes, or a function that writes them to an open file.
        durable: If true, flush the file to the disk before the rename, and then its folder: when this returns, the new content
            survives a power cut.

    Raises:
        OSError: The file could not be written. The target is unchanged, unless only the folder could not be flushed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            if durable:
                file.flush()
                sync_file(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        with suppress(PermissionError):  # no permission to open the folder itself
            sync_folder(path.parent)
