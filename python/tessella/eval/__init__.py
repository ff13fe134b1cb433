"""What an encoder or a search is worth: retrieval, similarity, classes, clusters and pairs, with tests of significance.

NumPy alone, unless an encoder is handed in.
"""

from __future__ import annotations

from tessella.eval.baselines import BM25, TfIdf
from tessella.eval.comparison import Classification, Clustering, Pairs, Similarity, compare
from tessella.eval.data import Retrieval, read, read_similarity
from tessella.eval.report import Report, Resampled, Table
from tessella.eval.retrieval import DEFAULT, ranked_metrics, retrieval
from tessella.eval.significance import bootstrap, permutation_test
from tessella.eval.tasks import classification, clustering, pairs, sts

__all__ = [
    "BM25",
    "DEFAULT",
    "Classification",
    "Clustering",
    "Pairs",
    "Report",
    "Resampled",
    "Retrieval",
    "Similarity",
    "Table",
    "TfIdf",
    "bootstrap",
    "classification",
    "clustering",
    "compare",
    "pairs",
    "permutation_test",
    "ranked_metrics",
    "read",
    "read_similarity",
    "retrieval",
    "sts",
]
