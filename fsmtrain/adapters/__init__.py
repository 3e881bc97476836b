"""Meets other packages: a run in the form that they know. The table decides and the runtime does, here as everywhere."""
