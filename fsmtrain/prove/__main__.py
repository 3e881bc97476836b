"""``python -m fsmtrain.prove``: prove every claim about the loop, and print a table of verdicts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import perf_counter

from fsmtrain.errors import UsageError
from fsmtrain.prove.prove_all import prove_all
from fsmtrain.prove.smt.lemmas import prove_lemmas

LEGEND = """
built-in  the claim needs this built-in decision; all other user guards may answer anything
Z3        how the proof was found: by induction, or with invariants from Z3's engine Spacer
cvc5      proof obligations that the second solver refuted too, of all
"""


def main() -> int:
    """Print the table; return 0 if everything is proved, 1 if not, 2 if a solver is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m fsmtrain.prove",
        description="Prove the claims about the training loop for all option values at once, with Z3 and cvc5.",
    )
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FOLDER",
        help="also write each proof obligation as an SMT-LIB file, for any solver: each must be unsat",
    )
    parser.add_argument(
        "--resumed",
        action="store_true",
        help="prove the claims of runs that are resumed with other limits, any number of times, in place of uninterrupted ones",
    )
    arguments = parser.parse_args()
    start = perf_counter()
    try:
        verdicts = prove_all(resumed=arguments.resumed, export=arguments.export)
        lemmas = prove_lemmas()
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{'claim':90} {'built-in':8} {'Z3':10} {'seconds':>7} {'cvc5':>7}")
    for verdict in verdicts:
        z3, cvc5 = verdict.method or "NOT PROVED", f"{verdict.refuted}/{verdict.obligations}"
        print(f"{verdict.statement:90} {verdict.built_in or '':8} {z3:10} {verdict.seconds:7.2f} {cvc5:>7}")
    print(f"\n{'lemma':99} {'proved by':10} {'seconds':>7}")
    for lemma in lemmas:
        solvers = ", ".join(name for name, proves in (("Z3", lemma.z3), ("cvc5", lemma.cvc5)) if proves) or "NOT PROVED"
        print(f"{lemma.lemma.statement:99} {solvers:10} {lemma.seconds:7.2f}")
    proved = sum(verdict.is_proved for verdict in verdicts) + sum(lemma.z3 or lemma.cvc5 for lemma in lemmas)
    total = len(verdicts) + len(lemmas)
    print(f"{LEGEND}\n{proved} of {total} proved in {perf_counter() - start:.1f} s")
    return 0 if proved == total else 1


if __name__ == "__main__":
    sys.exit(main())
