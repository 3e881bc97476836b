"""Checkpoints of a run: what is in one, whether it fits a run, when it is written, which one is loaded.

The files themselves belong to `checkpoint_files`. The machine imports this folder.
"""
