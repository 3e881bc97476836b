"""Folders of checkpoints on disk: atomic writes, checksums, retention, writing in the background.

`checkpointing` imports this folder.
"""
