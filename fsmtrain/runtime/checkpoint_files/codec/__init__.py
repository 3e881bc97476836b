"""Encode a state tree as a JSON skeleton with named tensors, and decode it. No file is opened here.

`store` imports this folder.
"""
