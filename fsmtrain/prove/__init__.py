"""Proofs about the loop: what the table promises, proved by Z3, cvc5 and Spin for all legal option values at once.

``python -m fsmtrain.prove`` prints the claims with verdicts; it needs the extra ``prove``. `claims` says what is claimed,
`loop_model` what is assumed, `smt` and `spin` prove it. No other part of the package imports anything from here.
"""
