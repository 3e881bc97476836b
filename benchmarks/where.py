"""The machine on which something was measured, and the versions of what was."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.peers import PACKAGES


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def load() -> str:
    """How many processes have wanted a processor lately: over a minute, five, fifteen."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"


def versions() -> dict[str, str]:
    """Of Python, torch, and what is compared, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in ("torch", "attrs", "transitions", *PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def lines() -> list[str]:
    """The machine, before it is measured on."""
    return [
        f"date       {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"processor  {processor()}, {os.cpu_count()} cores; {platform.system()} {platform.machine()}",
        f"threads    torch uses {torch.get_num_threads()}",
        f"versions   {', '.join(f'{name} {number}' for name, number in versions().items())}",
        f"load       {load()} when it began",
    ]
