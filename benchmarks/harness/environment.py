"""The computer and the package versions of a measurement."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.trainings.with_other_trainers import PACKAGES


def processor_name() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def load_average() -> str:
    """Return the load averages of the last minute, five and fifteen."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"


def versions() -> dict[str, str]:
    """Return the versions of Python, torch and the compared packages that are installed."""
    versions = {"python": platform.python_version()}
    for name in ("torch", "attrs", "transitions", *PACKAGES):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def lines() -> list[str]:
    """Return a description of the computer, before the measurement."""
    return [
        f"date       {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"processor  {processor_name()}, {os.cpu_count()} cores; {platform.system()} {platform.machine()}",
        f"threads    {torch.get_num_threads()} in torch",
        f"versions   {', '.join(f'{name} {number}' for name, number in versions().items())}",
        f"load       {load_average()} at the start",
    ]
