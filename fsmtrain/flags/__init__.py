"""Metadata and validators of the flags of `Options`, the precisions, and names in other trainers.

What is about one run of a given size is in `core.limits`. Imported by `options` and what is above it.
"""
