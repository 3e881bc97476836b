"""The loop as proofs see it: its effects read as data, the assumptions about its environment, and ghost state.

Imported by the claims, by `smt` and by `spin`. Nothing here needs a solver.
"""
