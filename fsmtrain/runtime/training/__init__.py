"""The actions of the training states: one train batch, the end of an epoch, and what surrounds them.

Passes over val and test loaders belong to `evaluation`. `actions` imports this folder.
"""
