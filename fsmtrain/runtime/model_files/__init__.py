"""Files with a model's weights and hyperparameters, ours and other trainers', read safely.

The state of a whole run belongs to `checkpointing`.
"""
