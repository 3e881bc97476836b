"""The static check of a run: explores its table and looks at its plan. May import `planning` and `guard_ast`."""
