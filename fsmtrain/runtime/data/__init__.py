"""Batches and the loaders that give them: lengths, positions, nested batches, copies to the device.

What a batch is used for belongs to `training` and `evaluation`, which import this folder.
"""
