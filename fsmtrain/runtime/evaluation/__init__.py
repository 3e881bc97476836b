"""The actions of the passes over val and test loaders: sanity pass, validation, test.

`actions` imports this folder.
"""
