"""State diagrams of a loop: their data, the labels of their edges, and one module for each format.

`Loop.draw`, `Machine.draw`, the report and the command line import this folder. It imports nothing of the console or the run
folder.
"""
