"""`make bench`: what things cost, measured side by side, and printed as one table at the end.

    python -m benchmarks                       # everything; some minutes
    python -m benchmarks plain windows         # these parts alone
    python -m benchmarks --quick --no-peers    # a short run, of this package alone
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks import tables
from benchmarks.peers import NONE, peers
from benchmarks.scenarios import scenarios
from benchmarks.terminal import terminal
from benchmarks.turns import measure


def say(text: str) -> None:
    """Tell a person how far it is."""
    print(text, file=sys.__stderr__, flush=True)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns")
    parser.add_argument("--no-peers", action="store_true", help="leave other trainers out")
    parser.add_argument("--batches", type=int, help="measured in each turn")
    parser.add_argument("--rounds", type=int, help="turns of each contestant")
    arguments = parser.parse_args()
    batches = arguments.batches or (500 if arguments.quick else 2000)
    rounds = arguments.rounds or (3 if arguments.quick else 11)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        known = scenarios(NONE if arguments.no_peers else peers(), Path(folder))
        lines: list[str] = []
        for part in arguments.parts or known:
            with terminal() as drawn:
                found = measure(known[part], batches=batches, rounds=rounds, drawn=drawn, say=say)
            lines += tables.of_turns(known[part].name, found)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
