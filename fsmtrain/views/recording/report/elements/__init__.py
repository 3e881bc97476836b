"""HTML, axes, charts and downsampled curves, of which the sections of the report are made."""
