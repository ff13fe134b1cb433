"""Benchmarks of tessella: timing, data sets, roofs of the machine, comparison with other libraries."""
