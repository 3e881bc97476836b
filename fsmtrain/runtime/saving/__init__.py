"""Checkpoint files: how a state becomes files and comes back, and how they are kept safe. Nothing here knows of a run."""
