"""Every kernel family in plain NumPy: the definitions that the fast versions answer to.

These pages are written to be read. They need NumPy alone, check nothing and hurry nowhere; tests hold every
level of `_core` to them, bit for bit where integers decide.
"""

from tessella.reference import binary, exact, fde, kmeans, maxsim, pq, rabitq, rotate, scalar, smve

__all__ = ["binary", "exact", "fde", "kmeans", "maxsim", "pq", "rabitq", "rotate", "scalar", "smve"]
