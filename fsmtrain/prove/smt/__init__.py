"""Proofs by SMT solvers: the table as a transition system in Z3's terms, invariants, and obligations for Z3 and cvc5."""
