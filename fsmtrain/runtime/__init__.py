"""Do the work of each state, on torch. What happens when is decided in `core`; here is only how.

The rooms, each of which imports only those to its left:
checkpoint_files, metrics < data, model_files, optimization < training, evaluation < checkpointing.
"""
