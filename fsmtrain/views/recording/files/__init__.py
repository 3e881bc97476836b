"""Writers and readers of the files in a run folder. They know nothing of a running machine."""
