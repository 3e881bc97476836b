"""Runs side by side: what they are, by `RunFacts`; in which columns they differ; as a text table and as one HTML page.

Like the report, it is made from the run folders alone, and reads nothing but JSON.
"""
