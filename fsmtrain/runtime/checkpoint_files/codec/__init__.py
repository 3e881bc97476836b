"""Turn a state tree into a JSON skeleton with named tensors, and back. No file is opened here.

`store` imports this folder.
"""
