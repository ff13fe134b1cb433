"""What an encoder or a search is worth: retrieval, similarity, classes, clusters and pairs, with tests of significance.

NumPy alone, unless an encoder is handed in.
"""

from __future__ import annotations

from tessella.eval.baselines import BM25, TfIdf
from tessella.eval.data import Retrieval, read
from tessella.eval.report import Report
from tessella.eval.retrieval import DEFAULT, ranked_metrics, retrieval
from tessella.eval.significance import bootstrap, permutation_test
from tessella.eval.tasks import classification, clustering, pairs, sts

__all__ = [
    "BM25",
    "DEFAULT",
    "Report",
    "Retrieval",
    "TfIdf",
    "bootstrap",
    "classification",
    "clustering",
    "pairs",
    "permutation_test",
    "ranked_metrics",
    "read",
    "retrieval",
    "sts",
]
