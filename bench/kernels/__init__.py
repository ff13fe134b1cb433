"""Kernels one by one on one core: nanoseconds a row from cache and from memory, and the bytes moved."""
