"""Checkpoint files: write any state tree to disk durably, and read it back. Nothing here knows of a run.

`codec` turns values into JSON, `tensors` turns tensors into bytes, `store` keeps folders of files safe.
`checkpointing` and `model_files` import this folder.
"""
