"""Resume a loader: from its state_dict, by drawing its indices again, or by loading again.

`restore_loader_position` chooses one of these classes for each loader. A new kind of loader is one more file here, and its
class in `restore_loader_position.STRATEGIES`.
"""
