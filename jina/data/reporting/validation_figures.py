"""All that `python -m jina validate` has to say about some files, as plain JSON.

Scan ─ shapes, lengths, what rows have in common ─► {"rows", "accepted", "problems", …}
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from jina.data.item_lengths import Measures
from jina.data.reporting.content_figures import (
    Shared,
    count_names,
    count_shapes,
    count_tasks,
    duplicate_rows,
    find_overlap,
    query_negatives,
    shared_positives,
    shared_queries,
    wrong_negatives,
)
from jina.data.reporting.length_figures import image_figures, text_figures
from jina.data.validation import Scan

Figures = dict[str, object]


def validation_figures(
    scan: Scan, measures: Measures, groups: Mapping[str, Sequence[int]]
) -> Figures:
    """Return all there is to say about some files.

    Args:
        scan: What was found in them.
        measures: How a run measures items.
        groups: Numbers of the files that belong together, under names such as "train"; what two
            groups have in common is reported.
    """
    index = scan.index
    return {
        "rows": scan.rows,
        "accepted": len(index),
        "refused": scan.refused,
        "problems": [problem.as_dict() for problem in scan.problems],
        "files": [
            {"file": str(file), "rows": rows, "accepted": int((index.files == number).sum())}
            for number, (file, rows) in enumerate(zip(scan.files, scan.lines, strict=True))
        ],
        "checked": "pixels" if scan.rules.is_deep else "headers",
        "shapes": dict(count_shapes(index).most_common()),
        "tasks": dict(count_tasks(index).most_common()),
        "sources": dict(count_names(index.sources, index.source_names).most_common()),
        "languages": dict(count_names(index.languages, index.language_names).most_common()),
        "texts": text_figures(scan, measures),
        "images": image_figures(scan, measures),
        "measured_with": measures.origin,
        "duplicates": _common(scan, duplicate_rows(index)),
        "shared_queries": _common(scan, shared_queries(index)),
        "shared_positives": _common(scan, shared_positives(index)),
        "wrong_negatives": _common(scan, wrong_negatives(index)),
        "query_negatives": _common(scan, query_negatives(index)),
        "overlaps": [
            _overlap(scan, names, [groups[name] for name in names])
            for names in combinations(groups, 2)
        ],
    }


def _common(scan: Scan, shared: Shared) -> Figures:
    """Return what rows have in common, with the places of the examples."""
    examples = [[scan.where(row) for row in pair] for pair in shared.examples]
    return {"rows": shared.rows, "contents": shared.contents, "examples": examples}


def _overlap(scan: Scan, names: Sequence[str], files: Sequence[Sequence[int]]) -> Figures:
    """Return what two groups of files have in common."""
    first, second = (np.isin(scan.index.files, numbers) for numbers in files)
    found = find_overlap(scan.index, first, second)
    return {
        "between": list(names),
        "images": found.images,
        "texts": found.texts,
        "rows": found.rows,
        "examples": [[scan.where(row) for row in pair] for pair in found.examples],
    }
