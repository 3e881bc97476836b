"""What can stand where a file should be: a pipe, a folder, a socket, a device, a link, a terabyte of nothing."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

STRANGE_FILES = ("pipe", "folder", "socket", "device", "broken link", "link to itself", "link to a pipe", "terabyte")
SAYS = r"not a plain file|not a file|No such file|Too many levels|more than the \d+ that are read"  # of these, one each


def make_strange_file(path: Path, kind: str) -> None:
    """Put something in place of a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        _make_socket(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")  # a device of its own needs a privilege
    elif kind == "broken link":
        path.symlink_to("nowhere")
    elif kind == "link to itself":
        path.symlink_to(path.name)
    elif kind == "link to a pipe":
        pipe = path.with_name(f"{path.name} of a link")
        if not pipe.exists():
            os.mkfifo(pipe)
        path.symlink_to(pipe.name)
    else:
        path.touch()
        os.truncate(path, 2**40)


def _make_socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # the name of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)
