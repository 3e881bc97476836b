"""Tensors as bytes: dtypes, strides, shared memory, and the safetensors format.

`codec` and `store` import this folder.
"""
