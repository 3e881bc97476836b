"""The report of a run, and the browser that it is opened in."""
