"""Lines of JSONL as tests give them, and what comes of them."""

import json

import pytest

from jina.data.records import RecordError, Sample, parse_line

GOOD = b'"query": "a", "positive": "b"'


def parsed(row: object) -> Sample:
    """Parse a row given as an object or as the line itself."""
    raw = row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode()
    return parse_line(raw, file="train.jsonl", line=7)


def problems_of(row: object) -> list[str]:
    with pytest.raises(RecordError) as refusal:
        parsed(row)
    return refusal.value.problems


def pair(**fields: object) -> dict[str, object]:
    """Return the smallest good row, with some fields replaced or added."""
    return {"query": "a cat", "positive": "a small cat", **fields}
