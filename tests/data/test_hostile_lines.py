"""No line that breaks the contract of data/README.md gets through `parse_line`."""

import json
import pickle
import random
import time

import pytest

from jina.data import records
from jina.data.records import RecordError, Sample, parse_line
from tests.data.lines import GOOD, pair, parsed, problems_of

# Each line, the field its problem names, and what the message has to say.
HOSTILE_LINES = [
    (b"", "line", "is blank"),
    (b"\n", "line", "is blank"),
    (b"\r\n", "line", "is blank"),
    (b"  \t ", "line", "is blank"),
    (b"\xef\xbb\xbf{" + GOOD + b"}", "line", "byte order mark"),
    (b"\xef\xbb\xbf", "line", "byte order mark"),
    ("{}".encode("utf-16"), "line", "byte order mark"),
    (b"\xfe\xff\0{\0}", "line", "byte order mark"),
    (b"\0{\0}\0", "line", "is not JSON"),
    (b'{"query": "\xff"}', "line", "is not UTF-8"),
    (b'{"query": "caf\xe9", "positive": "b"}', "line", "is not UTF-8"),
    (b'{"query": "\xc3"}', "line", "is not UTF-8"),
    (b'{"query": "\xed\xa0\x80"}', "line", "is not UTF-8"),
    (b'{"query": "\xf5\x80\x80\x80"}', "line", "is not UTF-8"),
    (b"\x80\x04\x95", "line", "is not UTF-8"),
    (b"\x1f\x8b\x08\0", "line", "is not UTF-8"),
    (b"query,positive", "line", "is not JSON"),
    (b"a cat\ta small cat", "line", "is not JSON"),
    (b"{", "line", "is not JSON"),
    (b"{" + GOOD, "line", "is not JSON"),
    (b"{" + GOOD + b",}", "line", "is not JSON"),
    (b"{" + GOOD + b"} {" + GOOD + b"}", "line", "is not JSON"),
    (b"{" + GOOD + b"} // note", "line", "is not JSON"),
    (b"{'query': 'a', 'positive': 'b'}", "line", "is not JSON"),
    (b'{query: "a"}', "line", "is not JSON"),
    (b'{"query": "a\tb", "positive": "b"}', "line", "is not JSON"),
    (b'{"query": "a\0b", "positive": "b"}', "line", "is not JSON"),
    (b'{"query": "\\x41"}', "line", "is not JSON"),
    (b'{"query": "\\u12"}', "line", "is not JSON"),
    (b'{"query": True}', "line", "is not JSON"),
    (b'{"score": 01}', "line", "is not JSON"),
    (b'{"score": .5}', "line", "is not JSON"),
    (b'{"score": 0x10}', "line", "is not JSON"),
    (b"{" + GOOD + b', "score": NaN}', "line", "is not finite; got 'NaN'"),
    (b"{" + GOOD + b', "score": Infinity}', "line", "is not finite"),
    (b"{" + GOOD + b', "score": -Infinity}', "line", "is not finite"),
    (b"{" + GOOD + b', "score": 1e400}', "line", "is not finite; got '1e400'"),
    (b"{" + GOOD + b', "metadata": {"a": [NaN]}}', "line", "is not finite"),
    (b"{" + GOOD + b', "id": ' + b"9" * 5000 + b"}", "line", "is not finite"),
    (b"{" + GOOD + b', "metadata": {"a": -' + b"9" * 400 + b"}}", "line", "is not finite"),
    (b'{"query": "a", ' + GOOD + b"}", "query", "stands 2 times"),
    (b"{" + GOOD + b', "id": "a", "id": "a"}', "id", "stands 2 times"),
    (b"{" + GOOD + b', "metadata": {"a": 1, "a": 2, "a": 3}}', "a", "stands 3 times"),
    (b'{"\\u0071uery": "a", ' + GOOD + b"}", "query", "stands 2 times"),
    (b'{"query": "\\ud800", "positive": "b"}', "query", "half a surrogate pair"),
    (b'{"query": "a", "positive": ["b", "\\uDFFF"]}', "positive", "half a surrogate pair"),
    (b"{" + GOOD + b', "metadata": {"a": "\\udc00\\ud800"}}', "metadata", "half a surrogate"),
    (b"{" + GOOD + b', "id": "\\ud800x"}', "id", "half a surrogate pair"),
    (b"[" * 100_000, "line", "nested too deeply"),
    (b'{"a":' * 100_000, "line", "nested too deeply"),
    (b"{" + GOOD + b', "metadata": ' + b"[" * 90_000 + b"]" * 90_000 + b"}", "line", "nested"),
    (b" " * (records.MAX_LINE_BYTES + 1), "line", "is longer than"),
    (b"null", "line", "is not a JSON object"),
    (b"true", "line", "is not a JSON object"),
    (b"3", "line", "is not a JSON object"),
    (b'"a cat"', "line", "is not a JSON object"),
    (b'["a cat", "a small cat"]', "line", "is not a JSON object"),
    (b"[{" + GOOD + b"}]", "line", "is not a JSON object"),
    (b'{"id": "a", "positive_image": "b"}', "query", "is missing"),
    (b'{"positive": "b"}', "query", "is missing"),
    (b'{"query": "a"}', "positive", "is missing"),
    (b'{"query": "a", "negative": "b"}', "positive", "is missing"),
    (b'{"query": "a", "positive": null}', "positive", "is missing"),
    (b'{"query": null, "query_image": null, "positive": "b"}', "query", "is missing"),
    (b'{"query": ["a"], "positive": "b"}', "query", "is a list"),
    (b'{"query_image": ["a"], "positive": "b"}', "query_image", "is a list"),
    (b'{"query": "", "positive": "b"}', "query", "has no visible character"),
    (b'{"query": "  \\t\\n", "positive": "b"}', "query", "has no visible character"),
    (b'{"query": "\\u0000", "positive": "b"}', "query", "has no visible character"),
    (b'{"query": "\\u200b\\ufeff", "positive": "b"}', "query", "has no visible character"),
    (b'{"query": "\\u00a0\\u3000", "positive": "b"}', "query", "has no visible character"),
    (b'{"query": "\\u202e\\u2028", "positive": "b"}', "query", "has no visible character"),
    (b'{"query": "", "query_image": "a", "positive": "b"}', "query", "has no visible"),
    (b'{"query_image": "", "positive": "b"}', "query_image", "has no visible character"),
    (b'{"query": 3, "positive": "b"}', "query", "is not a string"),
    (b'{"query": 3.5, "positive": "b"}', "query", "is not a string"),
    (b'{"query": true, "positive": "b"}', "query", "is not a string"),
    (b'{"query": {"text": "a"}, "positive": "b"}', "query", "is not a string"),
    (b'{"query_image": 0, "positive": "b"}', "query_image", "is not a string"),
    (b'{"query": "a", "positive": 1}', "positive", "is not a string"),
    (b'{"query": "a", "positive": ["b", 1]}', "positive[1]", "is not a string"),
    (b'{"query": "a", "positive": [["b"]]}', "positive[0]", "is not a string"),
    (b'{"query": "a", "positive": ["b", ""]}', "positive[1]", "has no visible character"),
    (b'{"query": "a", "positive": ["b", null]}', "positive[1]", "neither text nor image"),
    (b'{"query": "a", "positive": []}', "positive", "is an empty list"),
    (b'{"query": "a", "positive_image": []}', "positive", "is an empty list"),
    (b'{"query": "a", "positive": [], "positive_image": []}', "positive", "is an empty list"),
    (b'{"query": "a", "positive": ["b"], "positive_image": "x"}', "positive", "mixes a list"),
    (b'{"query": "a", "positive": "b", "positive_image": ["x"]}', "positive", "mixes a list"),
    (b'{"query": "a", "positive": ["b"], "positive_image": []}', "positive", "more texts or more"),
    (b"{" + GOOD + b', "negative": ["a"], "negative_image": ["x", "y"]}', "negative", "more texts"),
    (
        b"{" + GOOD + b', "negative": [null], "negative_image": [null]}',
        "negative[0]",
        "neither text nor image",
    ),
    (b"{" + GOOD + b', "negative": ""}', "negative", "has no visible character"),
    (b"{" + GOOD + b', "negative_image": ["a", 5]}', "negative_image[1]", "is not a string"),
    (b"{" + GOOD + b', "negative": {}}', "negative", "is not a string"),
    (b"{" + GOOD + b', "task": "Retrieval"}', "task", "is not a task"),
    (b"{" + GOOD + b', "task": ""}', "task", "is not a task"),
    (b"{" + GOOD + b', "task": ["code"]}', "task", "is not a task"),
    (b"{" + GOOD + b', "task": 1}', "task", "is not a task"),
    (b"{" + GOOD + b', "score": "0.5"}', "score", "is not in [0, 5]"),
    (b"{" + GOOD + b', "score": -0.1}', "score", "is not in [0, 5]"),
    (b"{" + GOOD + b', "score": 5.01}', "score", "is not in [0, 5]"),
    (b"{" + GOOD + b', "score": 100}', "score", "is not in [0, 5]"),
    (b"{" + GOOD + b', "score": true}', "score", "is not in [0, 5]"),
    (b"{" + GOOD + b', "score": [1]}', "score", "is not in [0, 5]"),
    (b"{" + GOOD + b', "source": 3}', "source", "is not a string"),
    (b"{" + GOOD + b', "source": " "}', "source", "has no visible character"),
    (b"{" + GOOD + b', "id": 1.5}', "id", "neither a string nor a whole number"),
    (b"{" + GOOD + b', "id": true}', "id", "neither a string nor a whole number"),
    (b"{" + GOOD + b', "id": ["a"]}', "id", "neither a string nor a whole number"),
    (b"{" + GOOD + b', "metadata": "de"}', "metadata", "is not an object"),
    (b"{" + GOOD + b', "metadata": []}', "metadata", "is not an object"),
    (b"{" + GOOD + b', "positve": "b"}', "positve", 'did you mean "positive"?'),
    (b"{" + GOOD + b', "Query": "b"}', "Query", 'did you mean "query"?'),
    (b"{" + GOOD + b', "image": "b"}', "image", "is not a known field"),
    (b"{" + GOOD + b', "queryimage": "b"}', "queryimage", 'did you mean "query_image"?'),
    (b"{" + GOOD + b', "negatives": ["b"]}', "negatives", 'did you mean "negative"?'),
    (b"{" + GOOD + b', "scores": 1}', "scores", 'did you mean "score"?'),
    (b"{" + GOOD + b', "labels": 1}', "labels", "known fields: query, query_image"),
    (b"{" + GOOD + b', "": 1}', "''", "is not a known field"),
    (b"{" + GOOD + b', "a b": 1}', "'a b'", "is not a known field"),
    (b"{" + GOOD + b', "a\\nb": null}', "'a\\nb'", "is not a known field"),
]


class TestHostileLines:
    def test_there_are_enough_of_them(self) -> None:
        assert len({raw for raw, *_ in HOSTILE_LINES}) >= 80

    @pytest.mark.parametrize(
        ("raw", "field", "what"), HOSTILE_LINES, ids=lambda value: ascii(value)[:50]
    )
    def test_a_hostile_line_is_refused_by_file_line_and_field(
        self, raw: bytes, field: str, what: str
    ) -> None:
        (problem,) = problems_of(raw)
        assert problem.startswith(f"train.jsonl:7: {field}: ")
        assert what in problem
        assert problem.count("; got ") == 1
        assert problem.isprintable()
        assert len(problem) < 400

    def test_all_problems_of_a_line_are_told_at_once(self) -> None:
        row = {"qury": 1, "positive": ["a", ""], "negative": 3, "task": "x", "score": 9, "id": []}
        fields = [problem.split(": ")[1] for problem in problems_of(row)]
        assert fields == ["qury", "query", "positive[1]", "negative", "task", "score", "id"]

    def test_all_breaches_of_json_are_told_at_once(self) -> None:
        raw = b'{"query": "a", "query": NaN, "score": 1e999, "metadata": {"a": 1, "a": 1}}'
        assert len(problems_of(raw)) == 4

    def test_a_message_says_where_what_got_and_what_to_do(self) -> None:
        assert problems_of(pair(positive=["a", " \n"])) == [
            "train.jsonl:7: positive[1]: has no visible character; got ' \\n'; "
            "fill it or leave it out"
        ]

    @pytest.mark.parametrize("size", [10**3, 10**6])
    def test_long_values_are_shortened(self, size: int) -> None:
        rows = [
            pair(**{"x" * size: 1}),
            pair(query="\u200b" * size),
            pair(score="x" * size),
            pair(task=["x" * 50] * (size // 50)),
            b'{"query": "' + b"x" * size,
            b'{"metadata": {"' + b"x" * size + b'": 1, "' + b"x" * size + b'": 1}}',
            b"{" + GOOD + b', "id": ' + b"1" * size + b"}",
        ]
        start = time.perf_counter()
        assert max(len(problem) for row in rows for problem in problems_of(row)) < 500
        assert time.perf_counter() - start < 3

    def test_an_error_survives_pickling_and_being_raised_again_from_its_text(self) -> None:
        with pytest.raises(RecordError) as refusal:
            parsed({})
        error = pickle.loads(pickle.dumps(refusal.value))  # noqa: S301
        assert (error.problems, error.file, error.line) == (
            refusal.value.problems,
            "train.jsonl",
            7,
        )
        # So torch re-raises what happened in a loader worker.
        assert str(RecordError("one text")) == "one text"

    def test_controls_that_only_look_hostile_are_read(self) -> None:
        for row in (
            b'{"query": "\\ud83d\\ude00", "positive": "\\\\ud800"}',
            b'  {"query": "NaN", "positive": "Infinity"}  \r\n',
            b'{"query": "a", "positive": "b", "metadata": {"query": "a", "b": {"query": 1}}}',
            b'{"query": "a", "positive": "b", "id": ' + b"9" * 300 + b"}",
            b'{"query": "a", "positive": "b", "metadata": {"a": [[[[[[]]]]]]}}',
            json.dumps(pair(query="x" * 10**6)).encode(),
        ):
            assert isinstance(parse_line(row, file="f", line=1), Sample)


SEEDS = [
    pair(),
    {"query_image": "images/a.webp", "positive": "caf\u00e9 \U0001f408", "source": "emoji"},
    pair(negative=["x", "y"], negative_image=["1.png", None], id=3, task="code"),
    pair(positive=["a", None], positive_image=[None, "b"], score=0.5, metadata={"a": [1, {}]}),
]


def mutated(line: bytearray, generator: random.Random) -> bytes:
    """Return a line with a few bytes, or a whole token, replaced, dropped or doubled."""
    tokens = [b"null", b"NaN", b"1e999", b'"\\ud800"', b"[", b"]", b"{", b"}", b'"', b",", b"[]"]
    tokens += [b"\xff", b"\xe2\x80\xa8", b'""', b"true", b"-1", b"\0", b'"query":', b"\\"]
    for _ in range(generator.choice([1, 1, 1, 2, 8])):
        start = generator.randrange(len(line) + 1)
        end = min(len(line), start + generator.choice([0, 0, 1, 1, 5, 20]))
        other = generator.randrange(len(line) + 1)
        line[start:end] = generator.choice(
            [generator.choice(tokens), generator.randbytes(2), line[other : other + 9], b""]
        )
    return bytes(line)


class TestFuzzing:
    def test_ten_thousand_mutated_lines_give_a_sample_or_an_error_with_its_place(self) -> None:
        generator = random.Random(0)  # noqa: S311
        seeds = [json.dumps(seed, ensure_ascii=False).encode() for seed in SEEDS]
        samples = errors = 0
        for number in range(10_000):
            raw = mutated(bytearray(generator.choice(seeds)), generator)
            try:
                sample = parse_line(raw, file="fuzz.jsonl", line=number)
            except RecordError as error:
                errors += 1
                assert error.problems
                assert (error.file, error.line) == ("fuzz.jsonl", number)
                for problem in error.problems:
                    assert problem.startswith(f"fuzz.jsonl:{number}: ")
                    assert "; got " in problem
            else:
                samples += 1
                self.check(sample)
        assert samples > 500
        assert errors > 5000

    def check(self, sample: Sample) -> None:
        """Check what every later part of the program relies on."""
        assert sample.positives
        for item in (sample.query, *sample.positives, *sample.negatives):
            assert item.text is not None or item.image is not None
            for value in (item.text, item.image):
                if value is not None:
                    assert value.encode("utf-8").strip()
        assert sample.task in (None, *records.TASKS)
        assert sample.score is None or 0 <= sample.score <= 5
