"""Brute force in blocks is brute force."""

import numpy as np
import pytest

from jina.retrieval import exact_search
from jina.retrieval.exact_search import exact_top_k


@pytest.mark.parametrize(("queries", "documents"), [(3, 7), (256, 65_536), (1, 1)])
@pytest.mark.parametrize("top", [1, 12, 1000])
def test_blocks_of_any_size_give_what_sorting_all_gives(monkeypatch, queries, documents, top):
    monkeypatch.setattr(exact_search, "QUERIES_AT_A_TIME", queries)
    monkeypatch.setattr(exact_search, "DOCUMENTS_AT_A_TIME", documents)
    random = np.random.default_rng(0)
    asked, there = random.normal(size=(11, 16)), random.normal(size=(90, 16))
    found = list(exact_top_k(asked.astype(np.float32), there.astype(np.float32), top))
    expected = np.argsort(-(asked @ there.T), axis=1)[:, :top]
    assert [rows.tolist() for _, rows in found] == expected.tolist()
    for query, (scores, rows) in zip(asked, found, strict=True):
        assert scores == pytest.approx(there[rows] @ query, abs=1e-4)


def test_equal_scores_come_in_the_order_of_their_rows():
    documents = np.ones((50, 4), np.float32)
    ((_, rows),) = exact_top_k(np.ones((1, 4), np.float32), documents, 50)
    assert rows.tolist() == list(range(50))
