"""Loaders and their batches: lengths, resuming, seeded order, splitting in time, copies to the device.

What a batch is used for belongs to `training` and `evaluation`, which import this folder. Walks over nested values are in
`runtime.nested_tensors`, the global random generators in `runtime.rng`.
"""
