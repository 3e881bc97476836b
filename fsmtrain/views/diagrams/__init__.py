"""State diagrams of a loop: their data, their labels, and one module for each format.

`Loop.draw`, the report and the command line import this folder.
"""
