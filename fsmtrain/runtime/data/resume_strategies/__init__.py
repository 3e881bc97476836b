"""Resume a loader: from its state_dict, by drawing its indices again, or by loading again.

`resumable_loader` chooses one of these classes for each loader. A new kind of loader is one more file here, and its class in
`resumable_loader.STRATEGIES`.
"""
