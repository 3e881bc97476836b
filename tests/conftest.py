"""Settings for every test: one torch thread, an empty working folder, Ctrl-C enabled, a fast gc, the Hypothesis profile."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one torch thread: small tensors gain nothing from a second one, and test processes share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def imported_modules_are_no_garbage() -> None:
    """Let the garbage collector pass over what was imported: each of its full passes would take 0.2 s of a test's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run in an empty folder, so that recorded runs leave nothing in the repository."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session", autouse=True)
def listening_to_ctrl_c() -> None:
    """Enable SIGINT: a process started in the background of a shell ignores it, and so would its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# A slow machine is no failure; in CI every run makes the same examples.
settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("patient")
