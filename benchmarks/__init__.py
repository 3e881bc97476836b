"""Benchmarks: what fsmtrain adds to a batch, beside a hand-written loop and other trainers. None of them is a test."""
