"""``python -m fsmtrain.prove``: prints each claim with its verdict and time. The exit status is 1 where one is not proved."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import perf_counter

from fsmtrain.errors import UsageError
from fsmtrain.prove.prove_all import prove_all
from fsmtrain.prove.smt.lemmas import prove_lemmas


def main() -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fsmtrain.prove", description="Prove what the table of the loop promises.")
    parser.add_argument(
        "--export", type=Path, metavar="FOLDER",
        help="write what is to be checked of each proof as SMT-LIB files, for any solver: each must be unsat",
    )  # fmt: skip
    arguments = parser.parse_args()
    begun = perf_counter()
    try:
        verdicts = prove_all(export=arguments.export)
        lemmas = prove_lemmas()
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{'claim':78} {'with':8} {'by':10} {'seconds':>7} {'cvc5':>8}")
    for v in verdicts:
        agrees = f"{v.refuted}/{v.obligations}" if v.is_proved or v.obligations else "-"
        print(f"{v.statement[:78]:78} {v.built_in or '':8} {v.method or 'NOT PROVED':10} {v.seconds:7.2f} {agrees:>8}")
    print("\nlemmas")
    for lemma in lemmas:
        by = ", ".join(name for name, agrees in (("Z3", lemma.z3), ("cvc5", lemma.cvc5)) if agrees) or "NOT PROVED"
        print(f"{lemma.lemma.statement:97} {by:10} {lemma.seconds:7.2f}")
    proved = sum(v.is_proved for v in verdicts) + sum(lemma.z3 or lemma.cvc5 for lemma in lemmas)
    total = len(verdicts) + len(lemmas)
    print(f"\n{proved} of {total} proved in {perf_counter() - begun:.1f} s")
    return 0 if proved == total else 1


if __name__ == "__main__":
    sys.exit(main())
