"""Guards as syntax: parse a guard's source as an expression, and simplify, format or evaluate it. Nothing is executed."""
