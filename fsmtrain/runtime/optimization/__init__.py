"""Optimizers and what surrounds them: schedulers, accumulation windows, precision, gradient toggling, finiteness.

When an optimizer steps is decided in `core`. `training` imports this folder.
"""
