"""The run folder: `recorder` writes it while a run goes on, `report` makes an HTML page of it. Format: docs/run-folder.md.

Files of the folder, one module each, are in `files`. `fsmtrain.machine` and the command line import this package. Nothing here
imports the runtime.
"""
