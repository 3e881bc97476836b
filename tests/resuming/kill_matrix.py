"""The kill matrix, every kill of every scenario: ``python -m tests.resuming.kill_matrix [--every N] [SCENARIO ...]``.

Each run is killed at every stage of every visit (or at every N-th), resumed, and compared with the run that nobody kills; those
of `writing` at every operation on files. Prints how many of how many came out the same, bit for bit.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.resuming.kill_and_resume import KillMatrix, import_torch_modules
from tests.resuming.kills_while_writing import WRITING_SCENARIOS, WritingKillMatrix
from tests.resuming.resume_scenarios import SCENARIOS

MEMORY = Path("/dev/shm")  # a folder in memory, where there is one: what is synced there is synced at once


def main(arguments: list[str]) -> int:
    """Run the matrix; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = {**dict.fromkeys(SCENARIOS, KillMatrix), **dict.fromkeys(WRITING_SCENARIOS, WritingKillMatrix)}
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of: {'; '.join(rows)}; by default all")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="kill at each N-th moment only")
    options = parser.parse_args(arguments)
    import_torch_modules()
    tried = same = from_checkpoint = 0
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        for number, name in enumerate(options.scenarios or rows):
            began = time.perf_counter()
            row = rows[name](name, {**SCENARIOS, **WRITING_SCENARIOS}[name], Path(folder))
            moments = row.moments()
            for moment in moments[number % options.every :: options.every]:
                row.kill(moment)
            tried, same = tried + row.tried, same + row.tried - len(row.wrong)
            from_checkpoint += row.from_checkpoint
            seconds = time.perf_counter() - began
            print(f"{name:28}{row.tried - len(row.wrong):5} of {row.tried:5}   {seconds:5.0f} s", flush=True)
            for line in row.wrong:
                print(f"  {line}")
    print(f"{same} of {tried}; {from_checkpoint} of them went on from a checkpoint, the others from the start")
    return 0 if same == tried else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
