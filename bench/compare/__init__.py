"""Compares tessella with other libraries: equal threads, interleaved rounds, recall beside speed."""
