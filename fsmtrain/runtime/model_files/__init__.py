"""Files with a model's weights and hyperparameters, ours and other trainers', read without running any code in them.

The state of a whole run belongs to `checkpointing`.
"""
