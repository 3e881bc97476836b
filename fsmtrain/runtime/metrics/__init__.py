"""Metrics between the user's step methods and what records them: read, averaged, queued, copied to the host.

Files and progress bars belong to `views`. All of `runtime` may import this folder.
"""
