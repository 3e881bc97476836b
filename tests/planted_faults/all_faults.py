"""Plants every fault in the table, one at a time, and says who catches it: ``python -m tests.planted_faults.all_faults``.

Prints for each operator how many faults were caught by the proofs, by the check, by the traces, and, if asked for, by Spin;
how many are none, as the table with them provably does the same; and how many were missed. Then each fault that was missed.
A state whose work is left undone is a fault too: what catches it are the tests of the runtime, which count as traces here.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import defaultdict
from collections.abc import Iterable
from time import perf_counter

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.prove.claims.claim import Claim
from fsmtrain.prove.spin.run_spin import spin_refutes
from tests.planted_faults.drop_action import dropped_action_is_noticed, working_states
from tests.planted_faults.fault_detection import (
    CLAIMS,
    base_invariants,
    case_with_another_trace,
    check_finding,
    configurations,
    is_equivalent,
    lost_claim,
    whole_table,
)
from tests.planted_faults.fault_operators import Fault, faults


@frozen
class Caught:
    """Who caught a fault. `proofs` is the claim that is lost, `check` the error that is found."""

    number: int
    operator: str
    says: str
    proofs: str | None
    check: str | None
    traces: bool
    spin: bool | None  # None where it was not asked
    is_equivalent: bool  # whether the table provably does what the one without the fault does

    @property
    def by_any(self) -> bool:
        """Whether it was caught, or is none."""
        return bool(self.proofs or self.check or self.traces or self.spin or self.is_equivalent)


def planted_faults() -> list[Fault]:
    """All faults, in their order."""
    return list(faults(whole_table()))


def judge(number: int, *, with_spin: bool = False) -> Caught:
    """Who catches the fault with this number."""
    fault = planted_faults()[number]
    lost, found, differs = lost_claim(fault.table), check_finding(fault.table), case_with_another_trace(fault.table) is not None
    spin = spin_refutes(fault.table, (claim for claim in CLAIMS if isinstance(claim, Claim))) if with_spin else None
    equivalent = not (lost or found or differs or spin) and is_equivalent(fault.table)
    return Caught(number, fault.operator, fault.says, lost, found, differs, spin, equivalent)


def judge_action(state: State) -> Caught:
    """Who catches it that the work of a state is left undone."""
    return Caught(-1, "drop action", str(state), None, None, dropped_action_is_noticed(state), None, False)


def _without_spin(number: int) -> Caught:
    return judge(number)


def _with_spin(number: int) -> Caught:
    return judge(number, with_spin=True)


def score(found: Iterable[Caught]) -> str:
    """The table for a person."""
    by_operator: dict[str, list[Caught]] = defaultdict(list)
    for one in found:
        by_operator[one.operator].append(one)
        by_operator["all"].append(one)
    lines = [f"{'operator':28} {'faults':>7} {'proofs':>7} {'check':>7} {'traces':>7} {'spin':>7} {'same':>7} {'missed':>7}"]
    for operator, ones in sorted(by_operator.items(), key=lambda item: item[0] == "all"):
        has_spin = any(one.spin is not None for one in ones)
        lines.append(
            f"{operator:28} {len(ones):7} {sum(bool(one.proofs) for one in ones):7} "
            f"{sum(bool(one.check) for one in ones):7} "
            f"{sum(one.traces for one in ones):7} {sum(bool(one.spin) for one in ones) if has_spin else '-':>7} "
            f"{sum(one.is_equivalent for one in ones):7} {sum(not one.by_any for one in ones):7}"
        )
    return "\n".join(lines)


def main() -> int:
    """Judge all faults, or every n-th; returns 1 where one was not caught."""
    parser = argparse.ArgumentParser(description="Plant every fault in the table and say who catches it.")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="judge only every N-th fault")
    parser.add_argument("--spin", action="store_true", help="ask Spin too")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    begun = perf_counter()
    configurations()
    for claim in range(len(CLAIMS)):
        base_invariants(claim)  # once, before there are several processes
    numbers = range(0, len(planted_faults()), arguments.every)
    found = []
    judging = _with_spin if arguments.spin else _without_spin
    with multiprocessing.get_context("fork").Pool(arguments.processes, maxtasksperchild=20) as pool:
        for one in pool.imap_unordered(judging, numbers):
            found.append(one)
            print(f"{len(found)}/{len(numbers)} {one}", file=sys.stderr, flush=True)
        for one in pool.imap_unordered(judge_action, working_states()[:: arguments.every]):
            found.append(one)
            print(one, file=sys.stderr, flush=True)
    print(score(found))
    missed = sorted((one for one in found if not one.by_any), key=lambda one: one.number)
    for one in missed:
        print(f"not caught: {one.number} {one.operator}, {one.says}")
    print(f"{len(found)} faults in {perf_counter() - begun:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
