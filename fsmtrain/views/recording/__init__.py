"""The run folder: the recorder that writes it during a run, and the HTML report made from it.

The format is described in docs/run-folder.md; `files` has a module per file of the folder. `fsmtrain.machine` and the command
line import this package; nothing here imports the runtime.
"""
