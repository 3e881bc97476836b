"""Folders of checkpoints on disk: atomic writes, checksums, pruning, writing in the background.

`checkpointing` imports this folder.
"""
