"""A run's folder: what is written there while the run goes on. The format is described in docs/run-folder.md."""
