"""Benchmarks of tessella: timing, data sets, roofs of the machine, comparison with other libraries."""

from bench.machine import name_cpu_to_openblas

name_cpu_to_openblas()  # before anything imports a library that brings one
