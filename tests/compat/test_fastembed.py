"""fastembed's Muvera: the same numbers as its own, where it is installed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import tessella as ts
from tessella.compat.fastembed import Muvera
from tessella.reference import maxsim as reference

SETTINGS = [(16, 3, 4, 5), (32, 5, 16, 3), (8, 2, 8, 2), (8, 0, 4, 2)]  # dim, k_sim, dim_proj, r_reps


@pytest.mark.parametrize("setting", SETTINGS)
def test_encodings_are_fastembeds(rng: np.random.Generator, setting: tuple[int, int, int, int]) -> None:
    """Of documents in every cell that has tokens, and in empty ones whose nearest cell is the only one so near."""
    theirs = pytest.importorskip("fastembed.postprocess", reason="fastembed is an extra").Muvera(*setting)
    ours, (dim, k_sim, p, r) = Muvera(*setting), setting
    assert ours.embedding_size == theirs.embedding_size == r * p << k_sim
    for tokens in (1, 5, 60):
        x = rng.standard_normal((tokens, dim)).astype(np.float32)
        wanted = theirs.process_query(x)
        np.testing.assert_allclose(ours.process_query(x), wanted, atol=1e-5 * np.abs(wanted).max())
        got = ours.process_document(x).reshape(r, 1 << k_sim, p)
        cells = theirs.process_document(x).reshape(r, 1 << k_sim, p)
        for rep in range(r):
            filled = np.unique(theirs.simhash_projections[rep].get_cluster_ids(x))
            distances = np.bitwise_count(np.arange(1 << k_sim)[:, None] ^ filled)
            sure = (distances == distances.min(axis=1, keepdims=True)).sum(axis=1) == 1
            np.testing.assert_allclose(got[rep][sure], cells[rep][sure], atol=1e-5 * np.abs(cells).max())


def test_its_face() -> None:
    muvera = Muvera.from_multivector_model(SimpleNamespace(embedding_size=16), k_sim=3, dim_proj=4, r_reps=2)
    x = np.random.default_rng(0).standard_normal((9, 16))
    assert (muvera.dim, muvera.k_sim, muvera.dim_proj, muvera.r_reps, muvera.embedding_size) == (16, 3, 4, 2, 64)
    document = muvera.process_document(x)
    assert document.shape == (64,) and document.dtype == np.float32
    assert np.array_equal(muvera.process(x), document)
    one = muvera.process_document(x[:1]).reshape(2, 8, 4)
    assert np.allclose(one, one[:, :1])  # of one token every cell is that token
    for mistake, message in [
        (lambda: Muvera(4, dim_proj=5), "expected dim_proj <= dim; got 5 and 4"),
        (lambda: muvera.process_document(x[:0]), r"expected vectors of shape \(t, 16\), t > 0; got \(0, 16\)"),
        (lambda: muvera.process(x, True, False), "expected fill_empty_clusters and normalize_by_count alike"),
        (lambda: muvera.process_query(x[:, :3]), "16"),
    ]:
        with pytest.raises(ts.InvalidArgument, match=message):
            mistake()


def test_a_first_stage_ranks_as_maxsim_does_at_the_top(rng: np.random.Generator) -> None:
    documents = [rng.standard_normal((20, 32)).astype(np.float32) for _ in range(30)]
    muvera = Muvera(32)
    encoded = np.stack([muvera.process_document(x) for x in documents])
    for i in range(5):
        query = documents[i][:8]
        scores = [reference.score(query @ x.T) for x in documents]
        assert int(np.argmax(encoded @ muvera.process_query(query))) == int(np.argmax(scores)) == i
