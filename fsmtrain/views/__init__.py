"""Tells: what a loop would do, drawn and written for people. Reads tables, traces and plans; changes and decides nothing."""
