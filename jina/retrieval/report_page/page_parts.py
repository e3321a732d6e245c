"""What the template is given: charts of a run, and the gallery with its pictures."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jina.retrieval.report_page.charts import Chart, histogram, line_chart
from jina.retrieval.report_page.examples import Example, Examples, HardNegatives
from jina.retrieval.report_page.pictures import ItemView, Pictures, heat_uri
from jina.retrieval.report_page.rankings import Found
from jina.retrieval.token_matches import TokenMatches

LOSSES = {
    "contrastive_loss": "total",
    "single_loss": "dense (single vectors)",
    "multi_loss": "late interaction",
    "kl_loss": "KL",
    "eval_loss": "held out",
}
RANKING = {
    "eval_ndcg@5": "nDCG@5 dense",
    "eval_multi_ndcg@5": "nDCG@5 late interaction",
    "eval_recall@10": "recall@10 dense",
    "eval_spearman": "Spearman dense",
}
SIMILARITIES = {
    "positive_similarity": "positives",
    "negative_similarity": "negatives",
    "mean_cosine": "different contents",
}
DIMENSION = re.compile(r"eval_dim(\d+)_ndcg@5|single_loss_(\d+)")


@dataclass(frozen=True)
class FoundView:
    """A document of a ranking, as it is shown."""

    item: ItemView
    rank: int
    score: float
    is_right: bool


@dataclass(frozen=True)
class Token:
    """A token of a text, its patches' heat as a picture, and where it is hottest, in percent."""

    text: str
    best: float
    heat: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class HeatMap:
    """A text's tokens over a picture, whose patches are squares; `ratio` is width by height."""

    picture: ItemView
    ratio: float
    tokens: list[Token]


@dataclass(frozen=True)
class ExampleView:
    """A query, what was found for it, where its answers stood, and its tokens' matches."""

    example: Example
    query: ItemView
    top: list[FoundView]
    answers: list[tuple[ItemView, Found | None, Found | None]]
    heat_map: HeatMap | None


@dataclass(frozen=True)
class HardView:
    """A query, and its positive and hard negatives with both scores."""

    query: ItemView
    items: list[tuple[ItemView, Found | None, Found]]
    margin: float


@dataclass(frozen=True)
class Gallery:
    """What is shown of one direction."""

    title: str
    examples: list[ExampleView]
    hard_negatives: list[HardView]


def curves(history: Sequence[dict[str, Any]]) -> list[Chart]:
    """Draw what was logged."""
    losses: dict[int, str] = {}
    rankings: dict[int, str] = {}
    for name in dict.fromkeys(name for entry in history for name in entry):
        match = DIMENSION.fullmatch(name)
        if match:
            (rankings if match[1] else losses)[int(match[1] or match[2])] = name
    whole = {"eval_ndcg@5": "whole"} if rankings else {}
    charts = [
        line_chart("Loss", history, LOSSES),
        line_chart("Ranking of held-out rows", history, RANKING),
        line_chart("Loss of each dimension", history, _by_size(losses)),
        line_chart("nDCG@5 of each dimension", history, _by_size(rankings) | whole),
        line_chart("Mean cosine in training batches", history, SIMILARITIES),
        line_chart("Gradient norm", history, {"grad_norm": "gradient norm"}),
        line_chart("Learning rate", history, {"learning_rate": "learning rate"}),
    ]
    return [chart for chart in charts if chart is not None]


def _by_size(names: dict[int, str]) -> dict[str, str]:
    return {names[size]: str(size) for size in sorted(names)}


def histograms(examples: Examples) -> list[Chart]:
    """Draw the scores of right and wrong documents, before and after."""
    charts = [
        histogram(
            f"{examples.group.title}, {when}",
            {"positives": rankings.positives, "negatives": rankings.negatives},
            "cosine",
        )
        for when, rankings in zip(("before", "after"), examples.rankings, strict=True)
    ]
    return [chart for chart in charts if chart is not None]


def gallery_of(examples: Examples, pictures: Pictures, matches: Sequence[TokenMatches]) -> Gallery:
    """Show the chosen queries of a direction."""
    by_pair = {frozenset((one.text, one.picture)): one for one in matches}
    return Gallery(
        examples.group.title,
        [_example(example, pictures, by_pair) for example in examples.queries],
        [_hard(found, pictures) for found in examples.hard_negatives],
    )


def _example(
    example: Example, pictures: Pictures, by_pair: dict[frozenset[str], TokenMatches]
) -> ExampleView:
    pairs = (
        frozenset((example.query, found.document))
        for pair in example.answers
        for found in pair
        if found is not None
    )
    matches = next((by_pair[pair] for pair in pairs if pair in by_pair), None)
    return ExampleView(
        example,
        pictures.view(example.query),
        [
            FoundView(pictures.view(f.document), f.rank, f.score, f.document in example.right)
            for f in example.top
        ],
        [
            (pictures.view(next(f.document for f in pair if f is not None)), *pair)
            for pair in example.answers[:3]
        ],
        None if matches is None else _heat_map(matches, pictures),
    )


def _hard(found: HardNegatives, pictures: Pictures) -> HardView:
    items = [(pictures.view(after.document), before, after) for before, after in found.items[:5]]
    return HardView(pictures.view(found.query), items, found.margin)


def _heat_map(matches: TokenMatches, pictures: Pictures) -> HeatMap:
    tokens = [_token(matches, number) for number in range(len(matches.tokens))]
    rows = len(matches.similarities[0]) // matches.columns
    return HeatMap(pictures.view(matches.picture), round(matches.columns / rows, 4), tokens)


def _token(matches: TokenMatches, number: int) -> Token:
    """Stretch a token's similarities to the whole scale, so that its own best patch shows."""
    flat, columns = matches.similarities[number], matches.columns
    low, high = min(flat), max(flat)
    width, height = 100 / columns, 100 * columns / len(flat)
    row, column = divmod(flat.index(high), columns)
    # squared, so that only what comes near the best patch is hot
    grid = [[((v - low) / ((high - low) or 1)) ** 2 for v in line] for line in matches.grid(number)]
    return Token(
        matches.tokens[number],
        high,
        heat_uri(grid),
        *(round(value, 2) for value in (column * width, row * height, width, height)),
    )
