"""Weights and hyperparameters as files, ours and other trainers', read without unpickling anything.

The state of a whole run belongs to `checkpointing`.
"""
