"""Bounded model checking: the table as a Promela model, which Spin explores exhaustively within small bounds."""
