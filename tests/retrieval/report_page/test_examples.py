"""Run files read back, and which queries the gallery shows."""

import numpy as np
import pytest

from jina.retrieval.item_collections import ItemReader
from jina.retrieval.judgements import item_id
from jina.retrieval.report_page.evaluations import Evaluations, Row
from jina.retrieval.report_page.examples import _chosen, choose_examples, negatives_of
from jina.retrieval.report_page.rankings import SHOWN, read_rankings
from jina.retrieval.report_page.run_record import ReportError


def write_run(folder, scores):
    """Write the run file of a (queries, documents) matrix; documents are named d0, d1, ...."""
    file = folder / "run.trec"
    with file.open("w") as stream:
        for query, row in enumerate(scores):
            for rank, document in enumerate(np.argsort(-row), 1):
                stream.write(f"q{query} Q0 d{document} {rank} {row[document]:.9g} x\n")
    return file


def test_a_run_file_is_read_back(tmp_path):
    scores = np.random.default_rng(0).normal(size=(6, 20)).astype(np.float32)
    grades = {f"q{q}": {f"d{q}": 1, f"d{q + 1}": 0, "gone": 2} for q in range(6)}
    found = read_rankings(write_run(tmp_path, scores), grades, {"q2": {"d9"}})
    np.testing.assert_allclose(np.sort(found.positives), np.sort(np.diag(scores)), rtol=1e-6)
    others = scores[~np.eye(6, 20, dtype=bool)]
    np.testing.assert_allclose(np.sort(found.negatives), np.sort(others), rtol=1e-6)
    assert found.missed == 6  # of grade 2, and in no ranking
    for query, row in enumerate(scores):
        kept = found.queries[f"q{query}"]
        best = [f"d{document}" for document in np.argsort(-row)[:SHOWN]]
        assert [one.document for one in kept.top] == best
        rank = int((row > row[query]).sum()) + 1
        assert kept.noted[f"d{query}"].rank == rank
        assert ("d9" in kept.noted) == (query == 2)


@pytest.mark.parametrize(
    "text", ["a b c\n", "q Q0 d one 0.5 x\n", "q Q0 d 1 half x\n", "q Q0 d 1 nan x\n"]
)
def test_a_damaged_run_file_is_named(tmp_path, text):
    (tmp_path / "run.trec").write_text(text)
    with pytest.raises(ReportError, match=r"run\.trec"):
        read_rankings(tmp_path / "run.trec", {}, {})


def test_best_gains_come_first_then_worst_losses_then_what_stayed():
    draw = np.random.default_rng(1)
    changes = {f"{i:03d}": tuple(draw.choice([0, 0.3, 0.5, 1], 2).tolist()) for i in range(200)}
    chosen = _chosen(changes)
    gains, losses, steady = (
        [changes[q][1] - changes[q][0] for q, kind in chosen.items() if kind == name]
        for name in ("gain", "loss", "steady")
    )
    every = sorted(after - before for before, after in changes.values())
    assert gains == every[::-1][: len(gains)]
    assert losses == every[: len(losses)]
    assert steady == [0] * 3
    assert list(chosen.values()) == sorted(chosen.values(), key=["gain", "loss", "steady"].index)
    assert _chosen({"a": (0.5, 0.5)}) == {"a": "steady"}
    assert _chosen({}) == {}


def test_hard_negatives_are_those_of_the_querys_own_rows(finished):
    reader = ItemReader(finished.dataset)
    negatives = negatives_of(reader)
    index = finished.dataset.index
    expected = {}
    for row in range(len(index)):
        query = item_id(index.queries.identities.view(np.uint64)[row])
        start, end = index.negatives.offsets[row : row + 2]
        own = index.negatives.identities.view(np.uint64)[start:end]
        if len(own):
            expected[query] = set(map(item_id, own))
    assert negatives == expected
    assert len(expected) == 6


def test_margins_are_those_of_the_scores_narrowest_first(finished):
    evaluations = Evaluations.read(finished.folder)
    (group,) = evaluations.groups()
    negatives = negatives_of(ItemReader(finished.dataset))
    found = choose_examples(evaluations, group, negatives)
    run = f"run.{group.file_name}.{evaluations.whole(group)}.trec"
    lines = (finished.folder / "eval/after" / run).read_text().splitlines()
    scores = {(q, d): float(score) for q, _, d, _, score, _ in map(str.split, lines)}
    qrels = (finished.folder / f"eval/after/qrels.{group.file_name}.trec").read_text()
    right = {line.split()[0]: line.split()[2] for line in qrels.splitlines()}
    margins = {
        query: scores[query, right[query]] - max(scores[query, one] for one in own)
        for query, own in negatives.items()
    }
    assert {one.query: one.margin for one in found.hard_negatives} == pytest.approx(margins)
    assert [one.margin for one in found.hard_negatives] == sorted(margins.values())


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.2, "better"), (-0.2, -0.1, "worse"), (-0.1, 0.1, "open"), (0, 0.1, "open")],
)
def test_only_an_interval_without_zero_is_a_verdict(low, high, verdict):
    assert Row("single-128", "ndcg@5", None, None, {"low": low, "high": high}).verdict == verdict
    assert Row("single-128", "ndcg@5", None, None, None).verdict == "open"
