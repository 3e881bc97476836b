"""Checkpoint files: write any state tree to disk durably, and read it back.

This folder knows nothing about runs.

`codec` turns values into JSON, `tensors` turns tensors into bytes, `store` keeps folders of files safe.
`checkpointing` and `model_files` import this folder.
"""
