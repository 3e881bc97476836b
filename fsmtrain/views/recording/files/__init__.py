"""Writers and readers of the files in a run folder. They know their formats, and nothing of a running machine."""
