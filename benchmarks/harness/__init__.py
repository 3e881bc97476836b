"""How benchmarks measure: contestants in turns, loaders that read the clock, a pseudo-terminal, tables."""
