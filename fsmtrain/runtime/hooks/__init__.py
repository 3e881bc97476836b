"""Hooks of the model and of callbacks: which there are, and calling them. What a run does between them belongs elsewhere.

`runtime.build` binds them, and the actions of the states call them.
"""
