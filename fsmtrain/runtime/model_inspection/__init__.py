"""What is found out about a user's model and callbacks before a run: hooks that nothing calls, classes of other trainers.

Nothing here runs the user's code. `runtime.build` and `runtime.hooks` import it.
"""
