"""Plant every fault in the table, one at a time, and print what detects it: ``python -m tests.planted_faults.all_faults``.

For each operator the table counts the faults that the proofs, the static check, the traces and, if requested, Spin detect;
the faults with which the table provably does the same; and those that nothing detects, which are then listed. Dropping the
work of a state is a fault too: the tests of the runtime detect it, which count as traces here.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from itertools import chain
from time import perf_counter

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.spin.run_spin import spin_refutes
from tests.planted_faults.drop_action import dropped_action_is_noticed, working_states
from tests.planted_faults.fault_detection import (
    CLAIMS,
    case_with_another_trace,
    check_finding,
    configurations,
    faultless_invariants,
    is_equivalent,
    lost_claim,
    whole_table,
)
from tests.planted_faults.fault_operators import Fault, faults


@frozen
class Judgement:
    """What detects a fault: the first claim that is lost, the first error of the check, traces that differ, and Spin."""

    number: int  # -1 for a dropped action
    operator: str
    place: str
    lost_claim: str | None = None
    check_error: str | None = None
    traces_differ: bool = False
    spin_refutes: bool | None = None  # None if Spin was not run
    is_equivalent: bool = False  # whether the table provably does the same

    @property
    def is_missed(self) -> bool:
        """Whether nothing detects the fault, although it may change what the table does."""
        return not (self.lost_claim or self.check_error or self.traces_differ or self.spin_refutes or self.is_equivalent)


def planted_faults() -> list[Fault]:
    """Return all faults of the table, in a fixed order."""
    return list(faults(whole_table()))


def judge(number: int, *, with_spin: bool = False, only_first: bool = False) -> Judgement:
    """Find out what detects the fault with this number.

    With `only_first` it ends with the first that does, of traces, check and proofs.
    """
    fault = planted_faults()[number]
    differs = case_with_another_trace(fault.table) is not None
    error = None if only_first and differs else check_finding(fault.table)
    lost = None if only_first and (differs or error) else lost_claim(fault.table)
    spin = spin_refutes(fault.table, (claim for claim in CLAIMS if isinstance(claim, Claim))) if with_spin else None
    equivalent = not (lost or error or differs or spin) and is_equivalent(fault.table)
    return Judgement(number, fault.operator, fault.place, lost, error, differs, spin, equivalent)


def judge_dropped_action(state: State) -> Judgement:
    """Find out whether a test of the runtime detects that the work of a state is not done."""
    return Judgement(-1, "drop action", str(state), traces_differ=dropped_action_is_noticed(state))


def score(judgements: Iterable[Judgement]) -> str:
    """Return the table of results."""
    by_operator: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        by_operator[judgement.operator].append(judgement)
        by_operator["all"].append(judgement)
    lines = [f"{'operator':28} {'faults':>7} {'proofs':>7} {'check':>7} {'traces':>7} {'spin':>7} {'same':>7} {'missed':>7}"]
    for operator, group in sorted(by_operator.items(), key=lambda item: item[0] == "all"):
        spin = [j.spin_refutes for j in group if j.spin_refutes is not None]
        counts = (
            len(group),
            sum(j.lost_claim is not None for j in group),
            sum(j.check_error is not None for j in group),
            sum(j.traces_differ for j in group),
            sum(spin) if spin else "-",
            sum(j.is_equivalent for j in group),
            sum(j.is_missed for j in group),
        )
        lines.append(f"{operator:28} " + " ".join(f"{count:>7}" for count in counts))
    return "\n".join(lines)


def main() -> int:
    """Judge all faults, or every n-th; return 1 if one is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.planted_faults.all_faults",
        description="Plant every fault in the table, one at a time, and print what detects it.",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="plant only every N-th fault")
    parser.add_argument("--first", action="store_true", help="go on to the next fault once something has detected one")
    parser.add_argument("--spin", action="store_true", help="also run Spin on each fault")
    parser.add_argument("--processes", type=int, default=2, help="faults judged at the same time (default: 2)")
    arguments = parser.parse_args()
    start = perf_counter()
    configurations()
    for claim in range(len(CLAIMS)):
        faultless_invariants(claim)  # once, before the processes are forked
    numbers = range(0, len(planted_faults()), arguments.every)
    judgements: list[Judgement] = []
    with multiprocessing.get_context("fork").Pool(arguments.processes, maxtasksperchild=20) as pool:
        for judgement in chain(
            pool.imap_unordered(partial(judge, with_spin=arguments.spin, only_first=arguments.first), numbers),
            pool.imap_unordered(judge_dropped_action, working_states()[:: arguments.every]),
        ):
            judgements.append(judgement)
            print(f"{len(judgements)} {judgement}", file=sys.stderr, flush=True)
    print(score(judgements))
    missed = sorted((judgement for judgement in judgements if judgement.is_missed), key=lambda judgement: judgement.number)
    for judgement in missed:
        print(f"missed: {judgement.number} {judgement.operator}, {judgement.place}")
    print(f"{len(judgements)} faults in {perf_counter() - start:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
