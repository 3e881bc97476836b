"""What a run prints on a terminal: the header, the progress bar or plain lines, the summary.

Files belong to `recording`. `machine` imports this folder.
"""
