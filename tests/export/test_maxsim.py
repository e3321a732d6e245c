"""MaxSim without padding, whatever the blocks."""

import pytest
import torch

from jina.export import maxsim
from jina.export.maxsim import maxsim_scores


def token_vectors(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, 8, generator=generator) for length in lengths]


def one_by_one(query, passage):
    return sum(max(float(q @ p) for p in passage) for q in query)


def test_scores_are_the_sum_of_each_query_tokens_best_match():
    queries, passages = token_vectors(3, 1, 7), token_vectors(5, 2, seed=1)
    expected = [[one_by_one(q, p) for p in passages] for q in queries]
    torch.testing.assert_close(maxsim_scores(queries, passages), torch.tensor(expected))


def test_a_best_match_below_zero_counts():
    query, passage = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])
    longer = torch.zeros(9, 2).fill_(-5.0)
    assert maxsim_scores([query], [passage, longer]).tolist() == [[-1.0, -5.0]]


@pytest.mark.parametrize("tokens", [1, 10, 40])
def test_no_bit_depends_on_the_blocks(monkeypatch, tokens):
    queries, passages = token_vectors(3, 9, 4, 1), token_vectors(5, 2, 6, seed=1)
    whole = maxsim_scores(queries, passages)
    monkeypatch.setattr(maxsim, "TOKENS_PER_BLOCK", tokens)
    assert torch.equal(maxsim_scores(queries, passages), whole)
    assert torch.equal(maxsim_scores(queries[1:2], passages), whole[1:2])
