"""`bounded`: what reads a file may take only so much time and memory for it, measured on the process itself."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SLACK_BYTES = 48 * 2**20  # of the interpreter and torch, whatever is read
SLACK_SECONDS = 3.0  # of the processor, for the same; machines differ
SECONDS_PER_MB = 20.0
JSON_MULTIPLE = 128  # bytes of memory for each byte of a file, as docs/checkpoint-format.md says


@contextmanager
def bounded(size: int, multiple: int = JSON_MULTIPLE) -> Iterator[None]:
    """Fail if the block takes more processor time, or more memory at its peak, than a file of this size may take."""
    gc.collect()
    before, start = _reset_peak(), time.process_time()
    try:
        yield
    finally:
        seconds, peak = time.process_time() - start, _peak() - before
    assert seconds < SLACK_SECONDS + size / 1e6 * SECONDS_PER_MB, f"{size} bytes took {seconds:.1f} seconds"
    assert peak < SLACK_BYTES + size * multiple, f"{size} bytes took {peak / 2**20:.0f} MiB of memory"


def _reset_peak() -> int:
    """Let the kernel measure the peak of the resident memory from now on; returns what is resident. 0 where it cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return _peak()


def _peak() -> int:
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
