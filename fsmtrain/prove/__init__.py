"""Proves what the table promises, for all legal option values at once, of the very rows that run.

Needs the extra ``prove`` (Z3 and cvc5); ``python -m fsmtrain.prove`` prints the table of claims. Nothing here decides
anything in a run, and nothing here is imported by one.
"""
