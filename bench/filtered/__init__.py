"""Filtered searches: workloads over real and made attributes, ours and peers on them, and what came of it."""
